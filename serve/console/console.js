
"use strict";

const POLL_MS = 2000;
const LONGEST_WAIT_MS = 30000;
const TIMEOUT_MS = 10000;
const WINDOW_SECONDS = 60;
const TOP = 5;
const KEY = "edgeloop-key";
const NONE = "–";
// Of a label of several: more likely than not.
const LIKELY = 0.5;

let info = null; // what /info says of the bundle that answers
let polls = []; // the newest last, a minute of them
let failures = 0;
let timer = 0;
let polling = false;
let lastTry = 0;

const at = (id) => document.getElementById(id);

// -- text and elements: everything that comes from outside is set as text -------------------------

function say(id, text) {
  const element = at(id);
  const value = String(text);
  if (element.textContent !== value) element.textContent = value;
}

function make(tag, text = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  return element;
}

function row(...cells) {
  const line = document.createElement("tr");
  line.append(...cells);
  return line;
}

const count = (value) => value.toLocaleString("en");
const short = (digest) => digest.slice(0, 12);
const clamp = (share) => `${100 * Math.min(1, Math.max(0, share))}%`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function milliseconds(value) {
  if (!Number.isFinite(value)) return NONE;
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

function evidenceOf(value) {
  if (value === null) return NONE;
  const size = Math.abs(value);
  if (size >= 100000 || (size && size < 0.005)) return value.toExponential(1);
  return size >= 1000 ? count(Math.round(value)) : value.toFixed(2);
}

function span(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const from = units.findIndex(([, size]) => seconds >= size);
  if (from < 0) return "0 s";
  const [name, size] = units[from];
  const whole = Math.floor(seconds / size);
  if (from >= 2) return `${whole} ${name}`;
  const [nextName, nextSize] = units[from + 1];
  return `${whole} ${name} ${Math.floor((seconds % size) / nextSize)} ${nextName}`;
}

function moment(iso) {
  const when = new Date(iso);
  const element = document.createElement("time");
  element.dateTime = iso;
  element.title = iso;
  const today = when.toDateString() === new Date().toDateString();
  const clock = when.toLocaleTimeString("en-GB");
  element.textContent = today ? clock : `${when.toLocaleDateString("en-CA")} ${clock}`;
  return element;
}

function setStatus(kind, text) {
  at("dot").className = `dot ${kind}`;
  say("status", text);
}

// -- the server -----------------------------------------------------------------------------------

function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  return fetch(path, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
}

class Unanswered extends Error {
  constructor(status, message, waitMs) {
    super(message);
    this.status = status;
    this.waitMs = waitMs;
  }
}

async function answerOf(reply) {
  if (reply.ok) return reply.json();
  let message = `the server answered ${reply.status}`;
  try {
    message = String((await reply.json()).error);
  } catch {
    // not ours: a proxy's, perhaps
  }
  const seconds = Number(reply.headers.get("retry-after"));
  throw new Unanswered(reply.status, message, seconds > 0 ? 1000 * seconds : 0);
}

function askForKey(note) {
  const form = at("key-form");
  const isNew = form.hidden;
  form.hidden = false;
  say("key-note", note);
  setStatus("warn", "a key is needed");
  if (isNew) at("key").focus();
}

// -- polling --------------------------------------------------------------------------------------

async function poll() {
  if (polling || document.hidden) return;
  clearTimeout(timer);
  polling = true;
  let waitMs = POLL_MS;
  try {
    if (info === null) await loadInfo();
    const state = await answerOf(await ask("console/state"));
    if (state.current.digest !== info.bundle_digest) await loadInfo();
    failures = 0;
    at("forget").hidden = !sessionStorage.getItem(KEY);
    show(state);
  } catch (problem) {
    waitMs = explain(problem);
  } finally {
    polling = false;
  }
  if (waitMs) timer = setTimeout(poll, waitMs);
}

// What went wrong; how long to wait, 0 until a key is given.
function explain(problem) {
  if (problem.status === 401) {
    const stale = sessionStorage.getItem(KEY);
    sessionStorage.removeItem(KEY);
    askForKey(stale ? problem.message : "It is kept in this tab until you close it.");
    return 0;
  }
  if (problem.status === 403) {
    setStatus("warn", "this key may not read the numbers (scope metrics)");
    at("forget").hidden = false;
    return LONGEST_WAIT_MS;
  }
  failures += 1;
  const waitMs = Math.min(POLL_MS * 2 ** (failures - 1), LONGEST_WAIT_MS);
  if (problem.status === 429) {
    setStatus("warn", "this key is over its rate");
    return Math.max(waitMs, problem.waitMs);
  }
  setStatus("bad", problem.status ? problem.message : "the server does not answer");
  return waitMs;
}

async function loadInfo() {
  info = await answerOf(await ask("info"));
  at("key-form").hidden = true;
  const labels = info.labels.length ? ` · ${count(info.labels.length)} labels` : "";
  say("model", info.model);
  say("about", `${info.task}${labels} · up to ${count(info.max_tokens)} tokens`);
  document.title = `${info.model} · edgeloop`;
  say("text-label", info.text_pair ? "First text" : "Text");
  say("truncate-label", `cut after ${count(info.max_tokens)} tokens`);
  at("second").hidden = !info.text_pair;
  at("text-pair").required = info.text_pair;
}

function show(state) {
  const up = `up ${span(state.uptime_seconds)}`;
  const words = { ok: ["good", "serving"], draining: ["warn", "draining"] };
  const [kind, text] = words[state.status] ?? ["bad", "unhealthy: an inference thread died"];
  setStatus(kind, `${text}, ${up}`);
  keep(state);
  showTraffic(state.traffic);
  showDrift(state.drift);
  showBundles(state);
  showTrials(state.trials);
  showHistory(state.history);
}

// -- rates and quantiles, from the differences of two polls ---------------------------------------

// Another server, or a tab that was hidden: what was before is no neighbour of this poll.
function keep(state) {
  const now = { at: state.uptime_seconds, ...state.traffic };
  const last = polls.at(-1);
  if (last && (now.at <= last.at || now.at - last.at > WINDOW_SECONDS / 2)) polls = [];
  polls.push(now);
  while (polls.length > 2 && now.at - polls[0].at > WINDOW_SECONDS) polls.shift();
}

const total = (poll, name) => poll[name].at(-1) ?? 0;

function ratesOf(name) {
  return polls.slice(1).map((poll, i) => {
    return (total(poll, name) - total(polls[i], name)) / (poll.at - polls[i].at);
  });
}

// As Prometheus does it: linear within the bucket. Milliseconds; null without an answer.
function quantile(name, share) {
  const [first, last] = [polls[0], polls.at(-1)];
  const counts = last[name].map((value, i) => value - first[name][i]);
  const all = counts.at(-1);
  if (!all) return NONE;
  const rank = share * all;
  const bucket = counts.findIndex((value) => value >= rank);
  const bounds = last.bounds_seconds;
  if (bucket >= bounds.length) return `> ${milliseconds(1000 * bounds.at(-1))}`;
  const [below, low] = bucket ? [counts[bucket - 1], bounds[bucket - 1]] : [0, 0];
  const within = (rank - below) / (counts[bucket] - below);
  return milliseconds(1000 * (low + (bounds[bucket] - low) * within));
}

function showTraffic(traffic) {
  const rates = ratesOf("requests");
  const rate = rates.at(-1);
  say("rate", rate === undefined ? NONE : rate < 100 ? rate.toFixed(1) : count(Math.round(rate)));
  drawSpark(rates);
  const texts = traffic.inferences.at(-1);
  say("inflight", count(traffic.inflight));
  say("queued", count(traffic.queued_texts));
  say("texts", count(texts));
  say("abstained", texts ? percent(traffic.abstained / texts) : NONE);
  for (const name of ["requests", "waits", "inferences"]) {
    say(`${name}-p50`, quantile(name, 0.5));
    say(`${name}-p95`, quantile(name, 0.95));
  }
  showRefused(traffic.rejected);
  const stages = Object.entries(traffic.stages).map(([stage, n]) => `${stage} ${percent(n / texts)}`);
  say("stages", stages.join(" · ") || "none: one model answers");
}

function showRefused(rejected) {
  const sum = (reasons) => Object.values(reasons).reduce((one, other) => one + other, 0);
  const lately = sum(rejected) - sum(polls[0].rejected);
  say("refused", `${count(lately)} in the last minute, ${count(sum(rejected))} since the start`);
  const byCount = Object.entries(rejected).sort(([, one], [, other]) => other - one);
  const reasons = byCount.map(([reason, n]) => `${reason.replaceAll("_", " ")} ${count(n)}`);
  say("refused-why", reasons.join(" · ") || NONE);
}

function drawSpark(rates) {
  const most = Math.max(...rates, 1e-9);
  const step = 120 / 30;
  const points = rates.slice(-31).map((rate, i, all) => {
    return `${(120 - step * (all.length - 1 - i)).toFixed(1)},${(31 - (30 * rate) / most).toFixed(1)}`;
  });
  at("spark").setAttribute("points", points.join(" "));
}

// -- drift, bundles, trials, history --------------------------------------------------------------

function showDrift(drift) {
  say("evidence", drift.armed ? evidenceOf(drift.log_evidence) : NONE);
  say("threshold", drift.armed ? `${evidenceOf(drift.threshold)}, log evidence` : NONE);
  const [kind, text] = drift.alarmed ? ["bad", "alarm"] : drift.armed ? ["good", "no alarm"] : ["warn", "not armed"];
  at("alarm").className = `verdict ${kind}`;
  say("alarm", text);
  setMeter(at("drift-meter"), drift.armed ? drift.log_evidence ?? 0 : 0, drift.threshold, drift.alarmed);
  const behind = drift.pending ? ` · ${count(drift.pending)} pending` : "";
  const dropped = drift.dropped ? ` · ${count(drift.dropped)} dropped` : "";
  const rate = drift.armed ? ` · one false alarm in ${count(drift.target_run_length)}` : "";
  say("drift-note", `${count(drift.observations)} texts observed${rate}${behind}${dropped}`);
}

function setMeter(meter, value, most, over) {
  meter.firstElementChild.style.width = clamp(most > 0 ? value / most : 0);
  meter.classList.toggle("over", over);
  meter.setAttribute("aria-valuemax", String(most));
  meter.setAttribute("aria-valuenow", String(Math.min(most, Math.max(0, value))));
}

// Rows change only where they must: a selection in them stays, and a reader is not disturbed.
function setRows(id, signature, build) {
  const body = at(id);
  const key = JSON.stringify(signature);
  if (body.dataset.shown === key) return;
  body.dataset.shown = key;
  body.replaceChildren(...build());
}

function headed(text) {
  const cell = make("th", text);
  cell.scope = "row";
  return cell;
}

function digestCell(digest, text = digest ? short(digest) : "") {
  const cell = make("td", text, digest ? "mono" : "");
  if (digest) cell.title = digest;
  return cell;
}

function bundleRow(place, bundle) {
  if (!bundle) {
    const none = make("td", "none", "quiet");
    none.colSpan = 3;
    return row(headed(place), none);
  }
  const made = make("td");
  made.append(moment(bundle.created_at));
  const dead = bundle.healthy ? "" : ", unhealthy";
  return row(headed(place), digestCell(bundle.digest), make("td", bundle.candidate + dead, "any"), made);
}

function showBundles(state) {
  setRows("bundles", [state.current, state.previous], () => [
    bundleRow("Current", state.current),
    bundleRow("Previous", state.previous),
  ]);
  say("busy", state.busy ? "one is being loaded" : "");
}

function showTrials(trials) {
  setRows("trials", trials, () => {
    return trials.length ? trials.map(trialBlock) : [make("p", "Nothing is on trial.", "quiet")];
  });
}

function trialBlock(trial) {
  const block = make("div");
  const title = make("h3", `${trial.variant} `);
  title.append(make("span", short(trial.bundle.digest), "mono"));
  const gets = trial.variant === "canary" ? "answers" : "scores a copy of";
  const verdict = trial.passed ? "passed" : "no verdict yet";
  const about = `${gets} ${percent(trial.share)} · ${count(trial.compared)} texts compared, ` +
    `${count(trial.least_answers)} at least · ${verdict}` +
    (trial.dropped ? ` · ${count(trial.dropped)} dropped` : "");
  const table = document.createElement("table");
  const head = document.createElement("thead");
  const caption = make("caption", `Evidence; a verdict stands at ${count(trial.needed_evidence)}`);
  const names = ["Question", "It is worse", "It is fine"].map((name, i) => {
    const cell = make("th", name, i ? "number" : "");
    cell.scope = "col";
    return cell;
  });
  head.append(row(...names));
  const body = document.createElement("tbody");
  for (const name of Object.keys(trial.questions.worse)) {
    body.append(evidenceRow(name, trial.questions.worse[name], trial.questions.fine[name]));
  }
  body.append(evidenceRow("all together", trial.worse, trial.fine));
  table.append(caption, head, body);
  block.append(title, make("p", about, "quiet"), table);
  return block;
}

function evidenceRow(name, worse, fine) {
  return row(headed(name), make("td", evidenceOf(worse), "number"), make("td", evidenceOf(fine), "number"));
}

const GOOD_OUTCOMES = ["ok", "started", "promoted", "ended", "replaced"];

function changeRow(change) {
  const when = make("td");
  when.append(moment(change.at));
  const good = GOOD_OUTCOMES.includes(change.outcome);
  const outcome = make("td", "", "outcome");
  const word = change.digest || good ? change.outcome.replaceAll("_", " ") : `refused: ${change.outcome}`;
  outcome.append(make("span", word, good ? "" : "bad-text"));
  if (change.reason) outcome.append(make("span", ` ${change.reason}`, "quiet"));
  const what = make("td", change.kind);
  what.append(make("span", ` by ${change.source}`, "quiet"));
  const bundle = digestCell(change.digest, change.digest ? short(change.digest) : change.bundle);
  const took = change.seconds ? `${change.seconds.toFixed(2)} s` : "";
  return row(when, what, bundle, outcome, make("td", took, "number took"));
}

function showHistory(history) {
  if (history.length) setRows("history", history, () => history.map(changeRow));
}

// -- try a text -----------------------------------------------------------------------------------

async function tryText(event) {
  event.preventDefault();
  if (info === null) return;
  const number = ++lastTry;
  const text = at("text").value;
  const isVector = info.task === "text-embedding";
  // A pair is a list of two; a batch of one would be a list in a list.
  const inputs = info.text_pair && !isVector ? [text, at("text-pair").value] : text;
  const body = JSON.stringify({ inputs, truncate: at("truncate").checked });
  const headers = { "content-type": "application/json" };
  const began = performance.now();
  let shown;
  try {
    const reply = await ask(isVector ? "embed" : "predict", { method: "POST", headers, body });
    const answer = await answerOf(reply);
    const tripMs = performance.now() - began;
    shown = () => showAnswer(text, answer, reply.headers, tripMs);
  } catch (problem) {
    if (problem.status === 401) explain(problem);
    shown = () => showProblem(problem);
  }
  if (number === lastTry) shown(); // else a later text has been sent
}

function showAnswer(text, answer, headers, tripMs) {
  at("answer").className = "answer";
  SHOW[info.task](text, answer);
  const abstained = headers.get("x-edgeloop-abstained");
  say("fact-inference", `${milliseconds(Number(headers.get("x-inference-time") ?? NaN))} ms`);
  say("fact-trip", `${milliseconds(tripMs)} ms`);
  say("fact-abstained", abstained === null ? "not in use" : abstained === "true" ? "yes" : "no");
  at("fact-abstained").className = abstained === "true" ? "warn-text" : "";
  say("fact-stage", headers.get("x-edgeloop-stage") ?? "single");
  const digest = headers.get("x-edgeloop-bundle") ?? NONE;
  say("fact-bundle", short(digest));
  at("fact-bundle").title = digest;
}

function showProblem(problem) {
  const timedOut = problem.name === "TimeoutError";
  const words = timedOut ? "no answer in time" : "the server does not answer";
  at("answer").className = "answer error";
  at("answer").replaceChildren(make("span", problem.status ? problem.message : words));
  at("detail").replaceChildren();
  for (const name of ["inference", "trip", "abstained", "stage", "bundle"]) say(`fact-${name}`, NONE);
  at("fact-abstained").className = "";
}

function headline(name, figure) {
  at("answer").replaceChildren(make("strong", name), make("span", figure, "score"));
}

function showClasses(_, classes) {
  headline(classes[0].label, percent(classes[0].score));
  drawBars(classes, (__, i) => i === 0);
}

function showLabels(_, classes) {
  const likely = classes.filter((one) => one.score >= LIKELY);
  headline(likely.map((one) => one.label).join(", ") || "none of the labels", "");
  drawBars(classes, (one) => one.score >= LIKELY);
}

function drawBars(classes, isBest) {
  const list = make("ul", "", "bars");
  list.append(...classes.slice(0, TOP).map((one, i) => {
    const line = make("li", "", isBest(one, i) ? "best" : "");
    const name = make("span", one.label, "name");
    name.title = one.label;
    const bar = make("span", "", "bar");
    bar.append(make("span"));
    bar.firstElementChild.style.width = clamp(one.score);
    line.append(name, bar, make("span", percent(one.score), "number"));
    return line;
  }));
  at("detail").replaceChildren(list);
}

// Offsets count characters, JavaScript's strings count UTF-16 units.
function showSpans(text, spans) {
  const characters = Array.from(text);
  const marked = make("p", "", "tagged");
  let end = 0;
  for (const found of spans) {
    marked.append(characters.slice(end, found.start).join(""));
    const mark = make("mark", characters.slice(found.start, found.end).join(""));
    mark.append(make("small", `${found.entity_group} ${percent(found.score)}`));
    marked.append(mark);
    end = found.end;
  }
  marked.append(characters.slice(end).join(""));
  headline(spans.length === 1 ? "1 span" : `${count(spans.length)} spans`, "");
  at("detail").replaceChildren(marked);
}

function showVector(_, [vector]) {
  const norm = Math.hypot(...vector);
  headline(`${count(vector.length)} dimensions`, `norm ${norm.toFixed(4)}`);
  const first = vector.slice(0, 8).map((value) => value.toFixed(4)).join("  ");
  at("detail").replaceChildren(make("p", `${first}  …`, "tagged mono"));
}

const SHOW = {
  "text-classification": showClasses,
  "multi-label-classification": showLabels,
  "token-classification": showSpans,
  "text-embedding": showVector,
};

// -- begin ----------------------------------------------------------------------------------------

at("try-form").addEventListener("submit", tryText);
at("try-form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("try-form").requestSubmit();
});
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  at("key").value = "";
  poll();
});
at("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});
document.addEventListener("visibilitychange", poll);
poll();
