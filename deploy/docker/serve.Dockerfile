# The edge server: onnxruntime, no torch, no transformers.
#   docker build -f deploy/docker/serve.Dockerfile -t edgeloop-serve:0.1.0 .
#   docker run -p 8080:8080 -v edgeloop:/var/lib/edgeloop edgeloop-serve:0.1.0
FROM python:3.11-slim AS build
# cpu,sign for a server that requires signatures.
ARG EXTRAS=cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY edgeloop edgeloop
COPY finetune finetune
COPY compress compress
COPY serve serve
COPY monitor monitor
RUN python -m venv /opt/edgeloop \
    && /opt/edgeloop/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

FROM python:3.11-slim
# The same numeric user as in the training image: they share one home folder.
RUN install -d -o 10001 -g 10001 /var/lib/edgeloop
COPY --from=build /opt/edgeloop /opt/edgeloop
ENV PATH=/opt/edgeloop/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    EDGELOOP_HOME=/var/lib/edgeloop
USER 10001:10001
WORKDIR /var/lib/edgeloop
VOLUME /var/lib/edgeloop
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
ENTRYPOINT ["edgeloop"]
CMD ["serve", "--follow", "support-tickets", "--host", "0.0.0.0", "--port", "8080"]
