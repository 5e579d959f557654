// The runs of this visit that are not over. The queue is the server's: what is sent waits there, whether the page is open or not.

import * as api from "./api.js";
import { thumbnail } from "./history.js";
import { jotted } from "./jotted.js";
import { eachPicture } from "./pictures.js";
import { Run, TERMINAL, newName, restored } from "./run.js";
import { pictureOf } from "./stage.js";

// What an earlier page was still sending is sent again; later nobody expects it any more.
const FRESH_MS = 5 * 60_000;

// Dispatches "change" when a run has begun, changed its state or ended, "progress" at every piece of news, and "split" (detail:
// a run for each picture, the first of them that of the job) when a job has drawn several.
export class Runs extends EventTarget {
  #history;
  #live = new Map(); // by job id, in the order they were sent
  #unsent = new Set(); // those whose ids are not known yet

  constructor(history) {
    super();
    this.#history = history;
  }

  // Those that the last visit left.
  resume() {
    const left = this.#history.records.filter(({ status, id }) => id && !TERMINAL.has(status));
    for (const record of left.reverse()) this.follow(restored(record));
    for (const record of jotted.all.filter(({ id }) => !id)) {
      if (record.createdMs > Date.now() - FRESH_MS) this.#sendAgain(restored(record));
      else jotted.drop(record);
    }
  }

  // The server may have it already: then it is the same job.
  async #sendAgain(run) {
    await this.send([run]).catch(({ message }) => run.refuse(message));
    this.dispatchEvent(new CustomEvent("change", { detail: run }));
  }

  // Lists of runs that were sent together, the oldest first.
  get sets() {
    const sets = new Map();
    for (const run of this.#live.values()) {
      const name = run.record.set ?? run.record.id;
      sets.set(name, [...(sets.get(name) ?? []), run]);
    }
    return [...sets.values()];
  }

  // By its id, or by its token while it has none.
  get(name) {
    return this.#live.get(name) ?? [...this.#unsent].find(({ record }) => record.token === name);
  }

  // One of the history, by its id, or by its token where it got its id when nobody looked any more; null for none.
  kept(name) {
    const record = this.#history.get(name) ?? this.#history.records.find(({ token }) => token === name);
    return record ? (this.#live.get(record.id) ?? restored(record)) : null;
  }

  // Puts the sets that wait in another order. The server draws first what came first: so all that shall be later than
  // something that is behind it is sent anew, behind all others, and taken out where it stood. `onReplace` gets each
  // run that was sent anew, and what stands for it now. Throws ApiError; then what was not sent anew keeps its place.
  async reorder(sets, onReplace) {
    const before = this.sets;
    const places = sets.map((set) => before.findIndex((one) => one[0] === set[0]));
    const isKept = places.map((place, index) => places.slice(0, index).every((other) => other < place));
    const first = isKept.indexOf(false);
    for (const set of first < 0 ? [] : sets.slice(first)) {
      for (const run of set) await this.#again(run, onReplace);
    }
  }

  // Sends a run that waits once more, and only then takes it out: nothing is lost when the server refuses.
  async #again(run, onReplace) {
    const { status } = await api.status(run.record.endpoint, run.record.id);
    if (status !== "IN_QUEUE" || run.isUnwanted) return;
    // Who cancels it from now on means the one that is sent.
    const again = (run.successor = run.copy());
    try {
      await again.submit();
    } catch (error) {
      run.successor = null;
      if (again.isUnwanted) await run.cancel();
      throw error;
    }
    this.#live.delete(run.record.id);
    this.follow(again);
    onReplace(run, again);
    this.#history.remove([run.record.id]);
    await run.withdraw().catch((error) => {
      // It waits still: so it is seen.
      run.successor = null;
      this.#live.set(run.record.id, run);
      this.#history.save(run.record);
      throw error;
    });
  }

  // Sends inputs as one set, one after the other: what is wrong with the first is wrong with all. `onFirst` is called
  // when the first is taken. Throws ApiError; the error's `sent` are the runs that were taken before.
  async send(runs, onFirst = () => {}) {
    const sent = [];
    for (const run of runs) {
      this.#unsent.add(run);
      // Pictures are too large to be written down.
      if (!run.record.from?.length) jotted.note(run.record);
    }
    try {
      for (const run of runs) {
        try {
          await run.submit();
        } finally {
          // Also one that could not be taken back.
          if (run.record.id) {
            this.follow(run);
            sent.push(run);
          }
          this.#noLongerSent(run);
        }
        if (run === runs[0]) onFirst();
      }
    } catch (error) {
      for (const run of runs) this.#noLongerSent(run);
      throw Object.assign(error, { sent });
    }
  }

  #noLongerSent(run) {
    this.#unsent.delete(run);
    jotted.drop({ token: run.record.token });
  }

  // Cancels runs, and with them what of their sets is still to be sent. Throws ApiError.
  async cancel(runs) {
    const sets = new Set(runs.map(({ record }) => record.set).filter(Boolean));
    const unsent = [...this.#unsent].filter((run) => sets.has(run.record.set) && !runs.includes(run));
    for (const { record } of [...unsent, ...runs]) jotted.drop({ token: record.token });
    await Promise.all([...unsent, ...runs].map((run) => run.cancel()));
  }

  // Has the server draw what a draft has left out; it is a run of its own. Throws ApiError.
  async finish({ record }) {
    const run = Run.finishing(record);
    await this.send([run]);
    return run;
  }

  // Follows a run to its end, and keeps what comes of it.
  async follow(run) {
    const { record } = run;
    this.#live.set(record.id, run);
    let { status } = record;
    run.addEventListener("change", () => {
      this.dispatchEvent(new Event("progress"));
      if (record.status === status) return;
      status = record.status;
      this.dispatchEvent(new CustomEvent("change", { detail: run }));
    });
    this.#history.save(record);
    this.dispatchEvent(new CustomEvent("change", { detail: run }));
    await run.follow();
    this.#live.delete(record.id);
    const isWanted = Boolean(this.#history.get(record.id)); // not removed meanwhile
    const runs = this.#split(run);
    if (isWanted) this.#history.saveAll(runs.map((one) => one.record));
    this.dispatchEvent(new CustomEvent("change", { detail: run }));
    for (const one of runs) await this.addThumbnail(one.record);
  }

  // Runs for the pictures of a run that is over.
  #split(run) {
    const [own, ...others] = run.record.picture ? this.#history.ofJob(run.record.job) : eachPicture(run.record);
    const runs = [run, ...others.map(restored)];
    Object.assign(run.record, own);
    if (others.length) this.dispatchEvent(new CustomEvent("split", { detail: runs }));
    return runs;
  }

  // Follows a run of somebody else's, which is not kept.
  async watch(run) {
    this.#live.set(run.record.id, run);
    run.addEventListener("change", () => this.dispatchEvent(new Event("progress")));
    await run.follow();
    this.#live.delete(run.record.id);
    this.#split(run);
    this.dispatchEvent(new CustomEvent("change", { detail: run }));
  }

  // Keeps what is drawn elsewhere on the page: it is followed when that page is left.
  keepAll(records) {
    return this.#history.saveAll(records);
  }

  async keep(record) {
    await this.#history.save(record);
    await this.addThumbnail(record);
  }

  forget(records) {
    return this.#history.remove(records.map(({ id }) => id));
  }

  // The server no longer has its picture.
  expire(record) {
    const picture = pictureOf(record);
    if (record.isExpired || !picture || !api.isOwnPicture(picture) || !this.#history.get(record.id)) return;
    this.#history.save(Object.assign(record, { isExpired: true }));
  }

  // A page that was left too early has made none.
  async addThumbnails() {
    for (const record of [...this.#history.records]) {
      if (record.thumbnail === undefined && !record.isExpired) await this.addThumbnail(record);
    }
  }

  async addThumbnail(record) {
    const picture = pictureOf(record);
    if (!picture || !api.isOwnPicture(picture)) return;
    const image = new Image();
    image.src = api.pictureUrl(picture);
    await image.decode().catch(() => {});
    if (!this.#history.get(record.id)) return; // removed meanwhile
    if (image.naturalWidth) await this.#history.save(Object.assign(record, { thumbnail: thumbnail(image) }));
  }
}

// Runs of one set, not yet sent.
export function newSet(endpoint, inputs) {
  const set = inputs.length > 1 ? newName() : undefined;
  return inputs.map((input) => Run.create(endpoint, input, set));
}
