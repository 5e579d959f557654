// The page of the figures: asks for them every few seconds while it is looked at.

import * as api from "./api.js";
import { bars } from "./charts.js";
import { arrange, byId, el } from "./dom.js";
import { seconds, usd } from "./format.js";
import { key, takeKeyFromAddress } from "./key.js";
import { SignIn } from "./signin.js";

const PERIOD_MS = 5_000;
const RANGES = { "1h": "1 hour", "24h": "24 hours", "7d": "7 days", "30d": "30 days" };
const OUTCOMES = { completed: "Completed", failed: "Failed", timedOut: "Timed out", cancelled: "Cancelled" };
// As the server knows them, and what stands in the list for them.
const STATES = {
  "IN_QUEUE,IN_PROGRESS": "Not over",
  COMPLETED: "Completed",
  "FAILED,TIMED_OUT": "Failed or timed out",
  CANCELLED: "Cancelled",
};
const WORKERS = ["idle", "running", "initializing", "throttled", "unhealthy"];
const DAY_MS = 86_400_000;

const time = (ms, options) => new Intl.DateTimeFormat("en-GB", options).format(ms);
const clock = (ms) => time(ms, { hour: "2-digit", minute: "2-digit" });
// Days of the server are days in UTC, wherever the browser is.
const date = (ms) => time(ms, { day: "numeric", month: "short", timeZone: "UTC" });
const capital = (word) => word[0].toUpperCase() + word.slice(1);

class Usage {
  #names;
  #signIn;
  #timer;
  #asking = new AbortController();

  constructor(catalogue) {
    this.#names = new Map(catalogue.map(({ id, name }) => [id, name]));
    this.#signIn = new SignIn();
    byId("endpoint").append(...catalogue.map(({ id, name }) => el("option", { value: id }, name)));
    const wanted = new URLSearchParams(location.hash.slice(1));
    this.range = wanted.get("range") in RANGES ? wanted.get("range") : "24h";
    if (this.#names.has(wanted.get("endpoint"))) byId("endpoint").value = wanted.get("endpoint");
    byId("state").append(...Object.entries(STATES).map(([value, name]) => el("option", { value }, name)));
    if (wanted.get("status") in STATES) byId("state").value = wanted.get("status");
    for (const name of ["endpoint", "state"]) byId(name).addEventListener("change", () => this.#chosen());
    byId("ranges").append(...Object.entries(RANGES).map(([value, name]) => this.#choice(value, name)));
    byId("welcome-button").addEventListener("click", () => this.#signIn.open(""));
    addEventListener("keychange", () => this.update());
    document.addEventListener("visibilitychange", () => document.hidden || this.update());
  }

  #choice(value, name) {
    const radio = el("input", { type: "radio", name: "range", value, checked: value === this.range });
    radio.addEventListener("change", () => {
      this.range = value;
      this.#chosen();
    });
    return el("label", {}, radio, el("span", { "aria-hidden": "true" }, value), el("span", { className: "unseen" }, name));
  }

  #chosen() {
    history.replaceState(null, "", `#${this.#query()}`);
    this.update();
  }

  #query() {
    const [endpoint, status] = [byId("endpoint").value, byId("state").value];
    return new URLSearchParams({ range: this.range, ...(endpoint && { endpoint }), ...(status && { status }) });
  }

  // Only the latest question is answered; the next one follows when this one is done and the page is seen.
  async update() {
    clearTimeout(this.#timer);
    this.#asking.abort();
    const { signal } = (this.#asking = new AbortController());
    const isSignedIn = key.get() !== "";
    byId("welcome").hidden = isSignedIn;
    if (!isSignedIn) {
      byId("updated").textContent = "Not signed in.";
      byId("problem").textContent = "";
      delete byId("main").dataset.shown;
      return;
    }
    try {
      const report = await api.usage(this.#query(), signal);
      if (signal.aborted) return;
      byId("problem").textContent = "";
      byId("updated").textContent = `Live. Updated at ${time(Date.now(), { timeStyle: "medium" })}.`;
      this.#show(report);
    } catch (error) {
      if (signal.aborted) return;
      byId("updated").textContent = "Not up to date.";
      byId("problem").textContent = error.message;
      if (error.status === 401) return this.#signIn.open(error.message);
    }
    if (!document.hidden) this.#timer = setTimeout(() => this.update(), PERIOD_MS);
  }

  #show(report) {
    // Charts are as wide as what is seen.
    byId("main").dataset.shown = "";
    const { requests, queue, workers } = report;
    const outcomes = Object.entries(OUTCOMES).map(([kind, name]) => figure(name, requests[kind], kind));
    figures("requests", [...outcomes, figure("Retried", requests.retried)]);
    figures("queue", [figure("Waiting", queue.inQueue), figure("Running", queue.inProgress)]);
    const states = WORKERS.filter((state) => state !== "throttled" || workers[state]);
    figures("workers", states.map((state) => figure(capital(state), workers[state])));
    byId("requests-chart").replaceChildren(requestsChart(report, byId("requests-chart").clientWidth));
    byId("times").replaceChildren(
      timesRow("Execution", report.executionTime),
      timesRow("Delay", report.delayTime),
      timesRow("Cold start", report.coldStartTime, `× ${report.coldStarts.toLocaleString("en")}`),
    );
    showPaused(report.webhooks.paused);
    this.#showSpend(report);
    const none = byId("state").value ? "No job is in this state." : "No job was made yet, or all have been forgotten.";
    const rows = report.jobs.map((job) => [JSON.stringify(job), () => this.#jobRow(job)]);
    arrange(byId("jobs"), rows.length ? rows : [[none, () => noRow(9, none)]]);
  }

  #showSpend({ spend, startTime, endTime }) {
    byId("spend-chart").hidden = endTime - startTime <= DAY_MS;
    if (!byId("spend-chart").hidden) byId("spend-chart").replaceChildren(spendChart(spend, startTime, endTime, byId("spend-chart").clientWidth));
    const rows = spend.toReversed().map(({ day, keyId, keyName, jobs, cost }) =>
      row(el("th", { scope: "row" }, day), cell(keyName || keyId), number(jobs), number(usd(cost))),
    );
    byId("spend").replaceChildren(...(rows.length ? rows : [noRow(4, "Nothing was charged.")]));
  }

  // To the playground, which shows the picture of one that was drawn.
  #jobLink({ id, endpointId }) {
    const name = el("code", {}, id);
    return this.#names.has(endpointId) ? el("a", { href: `./#${new URLSearchParams({ endpoint: endpointId, job: id })}` }, name) : name;
  }

  #jobRow(job) {
    const kind = { COMPLETED: "completed", FAILED: "failed", TIMED_OUT: "timedOut", CANCELLED: "cancelled" }[job.status];
    const state = el("td", {}, ...(kind ? [dot(kind), " "] : []), capital(job.status.toLowerCase().replaceAll("_", " ")));
    return row(
      cell(time(job.createdAt, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" })),
      state,
      cell(this.#names.get(job.endpointId) ?? job.endpointId),
      el("td", {}, this.#jobLink(job)),
      cell(job.workerId ?? "–"),
      number(job.delayTime === undefined ? "–" : seconds(job.delayTime)),
      number(job.executionTime === undefined ? "–" : seconds(job.executionTime)),
      number(usd(job.cost)),
      el("td", { className: "long" }, job.error ?? ""),
    );
  }
}

const row = (...cells) => el("tr", {}, ...cells);
const cell = (text) => el("td", {}, text);
const number = (text) => el("td", { className: "number" }, String(text));
const dot = (kind) => el("span", { className: `dot ${kind}` });
const noRow = (columns, words) => row(el("td", { colSpan: columns, className: "note" }, words));
const figures = (id, pairs) => byId(id).replaceChildren(...pairs);

function figure(name, value, kind) {
  const label = el("dt", {}, ...(kind ? [dot(kind)] : []), name);
  return el("div", {}, label, el("dd", { "data-figure": name }, value.toLocaleString("en")));
}

// Nothing is the rule, and not worth a line.
function showPaused(paused) {
  byId("webhooks-section").hidden = !paused.length;
  byId("webhooks").replaceChildren(
    ...paused.map(({ receiver, keyId, keyName, failures, waiting, until, error }) =>
      row(
        el("th", { scope: "row" }, receiver),
        cell(keyName || keyId),
        number(failures.toLocaleString("en")),
        number(waiting.toLocaleString("en")),
        cell(until > Date.now() ? time(until, { timeStyle: "medium" }) : "now"),
        el("td", { className: "long" }, error),
      ),
    ),
  );
}

function timesRow(name, found, hint) {
  const values = ["p70", "p90", "p98"].map((share) => number(found ? seconds(found[share]) : "–"));
  return row(el("th", { scope: "row" }, name, ...(hint ? [" ", el("span", { className: "hint" }, hint)] : [])), ...values);
}

function requestsChart({ buckets, bucketSize, requests, range }, width) {
  const label = bucketSize === DAY_MS ? date : range === "7d" ? (ms) => `${date(ms)} ${time(ms, { hour: "2-digit", minute: "2-digit", timeZone: "UTC" })}` : clock;
  const counts = (figures) => Object.entries(OUTCOMES).map(([kind, name]) => `${figures[kind]} ${name.toLowerCase()}`);
  return bars({
    bars: buckets.map((bucket) => ({
      label: label(bucket.startTime),
      title: `${label(bucket.startTime)}: ${counts(bucket).join(", ")}`,
      parts: Object.keys(OUTCOMES).map((kind) => ({ kind, value: bucket[kind] })),
    })),
    show: (value) => value.toLocaleString("en"),
    unit: 2,
    width,
    summary: `Requests over ${RANGES[range]}: ${counts(requests).join(", ")}.`,
  });
}

function spendChart(spend, startTime, endTime, width) {
  const days = [];
  for (let ms = startTime - (startTime % DAY_MS); ms < endTime; ms += DAY_MS) days.push(ms);
  const sums = days.map((ms) => {
    const day = new Date(ms).toISOString().slice(0, 10);
    return spend.filter((part) => part.day === day).reduce((sum, part) => sum + part.cost, 0);
  });
  return bars({
    bars: days.map((ms, index) => ({
      label: date(ms),
      title: `${date(ms)}: ${usd(sums[index])}`,
      parts: [{ kind: "completed", value: sums[index] }],
    })),
    show: usd,
    unit: 0.01,
    width,
    summary: `Spend by day: ${usd(sums.reduce((sum, cost) => sum + cost, 0))} on ${days.length} days.`,
  });
}

async function start() {
  takeKeyFromAddress();
  try {
    await new Usage(await api.catalogue()).update();
  } catch (error) {
    byId("problem").textContent = error.message;
    throw error;
  }
}

start();
