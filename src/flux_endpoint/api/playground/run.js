// One job from submission to its end, as the page sees it.

import * as api from "./api.js";
import { signedIn } from "./key.js";
import { newsOf } from "./news.js";
import { apart } from "./pictures.js";

export const TERMINAL = new Set(["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]);
const ALMOST = 0.99;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
const LEAVING_MS = 300;

// Tokens of what was sent and not answered, by what it was: sent once more, it is the same job.
const unanswered = new Map();

export const newName = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Dispatches "change" after each piece of news. `record` is all that is worth keeping; it is plain data.
export class Run extends EventTarget {
  constructor(record) {
    super();
    this.record = record;
    this.progress = null; // {step, total, percent, eta_ms} while it is drawn
    this.heardMs = 0; // when that came
    this.preview = null; // data: URL of the latest preview
    this.film = []; // all of them so far
    this.position = null; // in the queue, 1 is next
    this.notice = null; // what to know while it waits
    this.isOffline = false;
    this.isLockedOut = false; // nobody is signed in who may see it
    this.successor = null; // the run that was sent anew in its place
    this.isUnwanted = false; // somebody has cancelled it, whether the server knows already or not
  }

  // `set`: the name of the set it is sent in, if it is not sent alone.
  static create(endpoint, whole, set) {
    const [input, pictures] = apart(whole);
    const from = Object.keys(pictures);
    const text = JSON.stringify([endpoint.id, whole]);
    const token = unanswered.get(text) ?? newName();
    unanswered.delete(text);
    const run = new Run({ id: null, token, set, endpoint: endpoint.id, endpointName: endpoint.name, input, from, status: "SENDING", createdMs: Date.now() });
    run.pictures = pictures; // not kept with the record
    return run;
  }

  // The job that finishes a draft: the same input without the stop, sent as what is left of that draft.
  static finishing({ endpoint, endpointName, id, job = id, picture, input: { stop_after: _, ...rest }, output }) {
    const run = Run.create({ id: endpoint, name: endpointName }, { ...rest, seed: output.seed });
    run.record.draft = { job, picture };
    return run;
  }

  // A job that this page did not send, by the server's answer to a question for it.
  static found(endpoint, body) {
    const run = new Run({ id: body.id, endpoint: endpoint.id, endpointName: endpoint.name, input: {}, createdMs: Date.now() });
    run.#take(body);
    return run;
  }

  // The same input once more, not yet sent.
  copy() {
    const { set, endpoint, endpointName, input, draft } = this.record;
    const run = Run.create({ id: endpoint, name: endpointName }, { ...input, ...this.pictures }, set);
    return Object.assign(run, { record: { ...run.record, draft } });
  }

  // Whether it waits, and all of its input is here: that of a run of another visit lacks the pictures that it is drawn from.
  get isMovable() {
    const { status, input, from = [] } = this.record;
    return status === "IN_QUEUE" && Object.keys(input).length > 0 && (from.length === 0 || Boolean(this.pictures));
  }

  get isOver() {
    return TERMINAL.has(this.record.status);
  }

  // How far it is now: {part, leftMs}, part from 0 to 1; null until the worker has said. Moves on between two messages,
  // and stops short of an end that has not been told. A worker that tells no percentage counts its steps only.
  get pace() {
    if (!this.progress) return null;
    const { step, total, percent, eta_ms: etaMs = 0 } = this.progress;
    const told = percent === undefined ? step / total : percent / 100;
    const sinceMs = Date.now() - this.heardMs;
    const part = etaMs ? told + (1 - told) * Math.min(1, sinceMs / etaMs) : told;
    return { part: Math.min(part, ALMOST), leftMs: Math.max(0, etaMs - sinceMs) };
  }

  // Throws ApiError when the server refuses the input: then there is no job to follow, and no `record.id`. What was cancelled
  // before is not sent; what is cancelled meanwhile is taken back as soon as its id is known.
  async submit() {
    if (this.isOver) return;
    const { endpoint, input, token, draft } = this.record;
    const whole = { ...input, ...this.pictures };
    const sending = draft ? api.finish(endpoint, draft.job, draft.picture, token) : api.submit(endpoint, whole, token);
    const { id, status } = await sending.catch(async (error) => {
      // A page that is being left hears this too, and gets no further.
      if (!error.status) await sleep(LEAVING_MS);
      if (!draft && (!error.status || error.status >= 500)) unanswered.set(JSON.stringify([endpoint, whole]), token);
      throw error;
    });
    // One that was sent before may be over by now; what came of it is told to who follows it.
    Object.assign(this.record, { id, status: TERMINAL.has(status) ? "IN_PROGRESS" : status });
    if (this.isUnwanted) await this.cancel();
    else this.#changed();
  }

  // Reads the job's events to their end; after a lost connection it asks again, ever less often.
  async follow() {
    let pauseMs = FIRST_PAUSE_MS;
    while (!this.isOver) {
      try {
        for await (const body of newsOf(this.record.endpoint, this.record.id)) {
          pauseMs = FIRST_PAUSE_MS;
          this.isOffline = false;
          this.#take(body);
          if (this.isOver) return;
        }
      } catch (error) {
        this.isLockedOut = error.status === 401 || error.status === 403;
        if (this.isLockedOut) {
          this.#changed();
          await signedIn();
          this.isLockedOut = false;
          continue;
        }
        const isFinal = error instanceof api.ApiError && error.status >= 400 && error.status < 500 && error.status !== 429;
        if (isFinal) return this.#set({ status: "FAILED", error: error.message });
      }
      if (this.isOver) return;
      this.isOffline = true;
      this.#changed();
      await sleep(pauseMs);
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
  }

  // What was left unsent is not taken by the server.
  refuse(error) {
    this.#set({ status: "FAILED", error });
  }

  async cancel() {
    this.isUnwanted = true;
    if (this.successor) return this.successor.cancel();
    if (!this.isOver) await this.withdraw();
  }

  // Takes this very job out of the queue.
  async withdraw() {
    if (!this.record.id) return this.#set({ status: "CANCELLED" });
    const { status } = await api.cancel(this.record.endpoint, this.record.id);
    // What has ended just before is told by its events, with all that came of it.
    if (status === "CANCELLED") this.#set({ status });
  }

  #take({ progress, queuePosition, notice, ...body }) {
    this.position = queuePosition ?? null;
    this.notice = notice ?? null;
    if (progress) {
      if (progress.preview && progress.preview !== this.preview) this.film.push((this.preview = progress.preview));
      this.progress = progress;
      this.heardMs = Date.now();
    }
    const { status, output, error, executionTime, delayTime } = body;
    const news = { status, body };
    if (status === "COMPLETED") Object.assign(news, { output, executionTime, delayTime });
    if (error) news.error = error;
    this.#set(news);
  }

  #set(news) {
    // A cancelled job stays cancelled: news that were on their way say otherwise.
    if (this.isOver && !TERMINAL.has(news.status)) return;
    // Another tab was faster, and has taken its pictures apart already.
    if (!this.record.picture) Object.assign(this.record, news);
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

// A run from the history; `preview` and progress are not kept.
export const restored = (record) => new Run(record);

export const seedOf = (record) => record.output?.seed ?? record.input.seed;
