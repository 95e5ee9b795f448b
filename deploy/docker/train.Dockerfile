# Training and the nightly retrain: torch, transformers, peft.
#   docker build -f deploy/docker/train.Dockerfile -t edgeloop-train:0.1.0 .
#   docker run -v edgeloop:/var/lib/edgeloop -v "$PWD/recipes:/etc/edgeloop:ro" \
#     edgeloop-train:0.1.0 run /etc/edgeloop/recipe.yaml
FROM python:3.11-slim AS build
ARG EXTRAS=cpu,train
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python -m venv /opt/edgeloop
# torch first: what comes after it would otherwise pull the newest one.
RUN /opt/edgeloop/bin/pip install --no-cache-dir -c constraints.txt "torch==2.13.*"
COPY edgeloop edgeloop
COPY finetune finetune
COPY compress compress
COPY serve serve
COPY monitor monitor
RUN /opt/edgeloop/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

FROM python:3.11-slim
# The same numeric user as in the server image: they share one home folder.
RUN install -d -o 10001 -g 10001 /var/lib/edgeloop /var/cache/edgeloop
COPY --from=build /opt/edgeloop /opt/edgeloop
ENV PATH=/opt/edgeloop/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    EDGELOOP_HOME=/var/lib/edgeloop \
    HF_HOME=/var/cache/edgeloop/huggingface \
    MPLCONFIGDIR=/var/cache/edgeloop/matplotlib
USER 10001:10001
WORKDIR /var/lib/edgeloop
VOLUME /var/lib/edgeloop
ENTRYPOINT ["edgeloop"]
CMD ["retrain", "/etc/edgeloop/recipe.yaml"]
