// The page: puts the parts together and passes what happens in one on to the others.

import * as api from "./api.js";
import { CodeView } from "./code.js";
import { openCompare } from "./compare.js";
import { announce, byId, copyFrom } from "./dom.js";
import { takeFiles } from "./drop.js";
import { showChoice, showCost, showEndpoint } from "./endpoints.js";
import { Form } from "./form.js";
import { findRun } from "./found.js";
import { History, thumbnail } from "./history.js";
import { key, takeKeyFromAddress } from "./key.js";
import { fromFragment, toFragment } from "./link.js";
import { Run, TERMINAL, restored, seedOf } from "./run.js";
import { SignIn } from "./signin.js";
import { Stage, pictureOf, summary } from "./stage.js";
import { Thumbnails } from "./thumbnails.js";
import { Tabs } from "./tabs.js";

const SEVERAL = 4;
const ADDRESS_PAUSE_MS = 250; // browsers allow about a hundred changes of the address in half a minute
const IS_NARROW = matchMedia("(max-width: 59.99rem)");

class Playground {
  constructor(catalogue, earlier) {
    this.catalogue = catalogue;
    this.earlier = earlier;
    this.live = new Map(); // runs of this visit that are not over, by job id
    this.form = new Form();
    this.stage = new Stage({
      showAll: (runs) => this.show(runs),
      compare: (run) => this.compare(run),
      copyLink: (run, button) => copyFrom(button, this.linkTo(run.record)),
      remove: (run) => this.remove(run),
    });
    this.thumbnails = new Thumbnails(earlier, (record) => this.open(record));
    this.code = new CodeView(this.form);
    this.tabs = new Tabs((name) => name === "code" && this.code.show());
    this.signIn = new SignIn();
    showChoice(catalogue, (endpoint) => this.choose(endpoint));
    this.form.addEventListener("change", () => this.inputChanged());
    this.stage.addEventListener("choose", ({ detail }) => this.show([detail], this.stage.runs));
    this.stage.addEventListener("gone", ({ detail }) => this.expired(detail.record));
    this.#listen();
  }

  // The most important endpoint that makes pictures, if there is one.
  get #drawing() {
    return this.catalogue.find(({ makesPictures }) => makesPictures);
  }

  #listen() {
    byId("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.run(1);
    });
    byId("variations").addEventListener("click", () => this.run(SEVERAL));
    byId("reset").addEventListener("click", () => this.reset());
    byId("cancel").addEventListener("click", () => this.cancel());
    byId("readme-button").addEventListener("click", () => byId("readme-dialog").showModal());
    byId("clear").addEventListener("click", () => {
      if (confirm("Forget all earlier pictures of this browser?")) this.earlier.clear();
    });
    addEventListener("keydown", (event) => this.#pressed(event));
    addEventListener("keychange", () => this.code.show());
    addEventListener("hashchange", () => {
      takeKeyFromAddress();
      this.readAddress();
    });
    takeFiles(
      this.#drawing?.input.properties ?? {},
      (input, name) => this.load(input, `The parameters of ${name} are loaded`),
      (name) => this.complain(`${name} carries no parameters of a picture made here.`),
    );
  }

  #pressed(event) {
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.run(1);
    } else if (event.key === "Escape") {
      if (this.thumbnails.isPicking) this.thumbnails.pick(null);
      else this.cancel();
    }
  }

  start() {
    byId("settings").open = !IS_NARROW.matches;
    byId("run-keys").textContent = navigator.userAgent.includes("Mac") ? "⌘ ↵" : "Ctrl ↵";
    if (!this.readAddress()) this.choose(this.catalogue[0]);
    this.welcome();
    for (const record of this.earlier.records) {
      if (!TERMINAL.has(record.status)) this.follow(restored(record));
    }
    this.checkEarlier();
    byId("prompt").focus({ preventScroll: true });
  }

  // --- The input ---

  readAddress() {
    const found = fromFragment(location.hash.slice(1), this.catalogue);
    if (!found) return false;
    this.choose(found.endpoint);
    if (found.job) this.openJob(found);
    else this.form.input = found.input;
    return true;
  }

  choose(endpoint) {
    this.form.setEndpoint(endpoint);
    showEndpoint(endpoint);
    if (!this.stage.runs.length) this.welcome();
  }

  inputChanged() {
    const size = this.form.size.value;
    showCost(this.form.endpoint, size);
    this.stage.shapeWelcome(size);
    if (this.tabs.current === "code") this.code.show();
    clearTimeout(this.addressTimer);
    this.addressTimer = setTimeout(() => this.writeAddress(), ADDRESS_PAUSE_MS);
  }

  writeAddress() {
    let input;
    try {
      input = this.form.input;
    } catch {
      return; // half-written JSON
    }
    history.replaceState(null, "", `#${toFragment(this.form.endpoint, input)}`);
  }

  linkTo(record) {
    const endpoint = this.catalogue.find(({ id }) => id === record.endpoint) ?? this.form.endpoint;
    return `${api.BASE}#${toFragment(endpoint, { ...record.input, seed: seedOf(record) })}`;
  }

  load(input, words) {
    if (!this.form.endpoint.makesPictures) this.choose(this.#drawing);
    this.form.input = input;
    announce(words);
  }

  reset() {
    this.form.reset();
    this.show([]);
    this.welcome();
    byId("prompt").focus();
  }

  // --- Runs ---

  get busy() {
    return this.stage.runs.concat(this.stage.all ?? []).filter(({ isOver }) => !isOver);
  }

  async run(count) {
    if (this.busy.length) return;
    if (!key.get()) return this.signIn.open("", () => this.run(count));
    this.form.clearErrors();
    let input;
    try {
      input = this.form.input;
    } catch (error) {
      return this.form.showError(`The input is not valid JSON: ${error.message}`);
    }
    const { endpoint } = this.form;
    const inputs = count === 1 ? [input] : this.form.seed.several(count).map((seed) => ({ ...input, seed }));
    const runs = inputs.map((each) => Run.create(endpoint, each));
    const before = [this.stage.runs, this.stage.all];
    this.show(runs);
    if (this.tabs.current === "code") this.tabs.show("picture");
    try {
      // One after the other: what is wrong with the first is wrong with all.
      for (const run of runs) {
        await run.submit();
        this.follow(run);
        if (IS_NARROW.matches && run === runs[0]) document.querySelector(".stage").scrollIntoView({ block: "start" });
      }
    } catch (error) {
      const sent = runs.filter(({ record }) => record.id);
      if (sent.length) this.show(sent);
      else this.show(...before);
      if (sent.length === 0 && !before[0].length) this.welcome();
      if (error.status === 401) this.signIn.open(error.message, () => this.run(count));
      else this.form.showError(error.message);
    }
  }

  async follow(run) {
    const { record } = run;
    this.live.set(record.id, run);
    let { status } = record;
    run.addEventListener("change", () => {
      this.showState();
      if (record.status === status) return;
      status = record.status;
      this.thumbnails.show();
    });
    await this.earlier.save(record);
    await run.follow();
    this.live.delete(record.id);
    if (!this.earlier.records.some(({ id }) => id === record.id)) return; // removed meanwhile
    await this.earlier.save(record);
    this.showState();
    await this.addThumbnail(record);
  }

  async cancel() {
    const results = await Promise.allSettled(this.busy.map((run) => run.cancel()));
    const failed = results.find(({ status }) => status === "rejected");
    if (failed) this.complain(failed.reason.message);
  }

  complain(words) {
    byId("form-error").textContent = words;
  }

  // --- The stage ---

  welcome() {
    this.stage.welcome(this.form.endpoint, this.form.size.value, (prompt) => {
      this.form.input = { ...this.form.input, prompt };
      byId("prompt").focus();
    });
  }

  show(runs, all = null) {
    this.stage.show(runs, all);
    this.showState();
  }

  showState() {
    const { runs } = this.stage;
    const { state, text } = summary(runs);
    byId("badge").dataset.state = state;
    byId("badge-text").textContent = text;
    const isBusy = this.busy.length > 0;
    // The button that has the focus must not vanish under it.
    if (!isBusy && document.activeElement === byId("cancel")) byId("run").focus();
    byId("cancel").hidden = !isBusy;
    this.thumbnails.current = runs.length === 1 ? runs[0].record : null;
    for (const name of ["run", "variations"]) byId(name).setAttribute("aria-disabled", String(isBusy));
    document.title = isBusy ? `${text} · flux-endpoint` : "Playground · flux-endpoint";
    // Steps are shown, not read out.
    const spoken = state === "busy" && runs.some(({ record }) => record.status === "IN_PROGRESS") ? "Running" : text;
    if (spoken !== this.spoken) announce((this.spoken = spoken));
    if (runs.length === 1 && runs[0].record.status === "COMPLETED") this.form.seed.last = seedOf(runs[0].record);
  }

  // --- Earlier pictures ---

  open(record) {
    const run = this.live.get(record.id) ?? restored(record);
    const endpoint = this.catalogue.find(({ id }) => id === record.endpoint);
    if (endpoint) {
      this.choose(endpoint);
      const seed = seedOf(record);
      this.form.input = endpoint.makesPictures ? { ...record.input, seed } : record.input;
    }
    if (this.tabs.current === "code") this.tabs.show("picture");
    this.show([run]);
  }

  // A job by its id, as the page of the figures links it.
  async openJob({ endpoint, job }) {
    if (!key.get()) return this.signIn.open("", () => this.openJob({ endpoint, job }));
    const known = this.earlier.records.find(({ id }) => id === job);
    if (known) return this.open(known);
    try {
      const run = await findRun(endpoint, job);
      this.live.set(job, run);
      this.open(run.record);
      run.addEventListener("change", () => this.showState());
      await run.follow();
      this.live.delete(job);
    } catch (error) {
      this.complain(error.message);
    }
  }

  async remove(run) {
    await this.earlier.remove(run.record.id);
    this.show([]);
    this.welcome();
    byId("prompt").focus();
  }

  compare(run) {
    this.tabs.show("picture");
    this.thumbnails.pick((other) => openCompare(run.record, other));
    byId("thumbnails").querySelector("button:not(:disabled)")?.focus();
  }

  expired(record) {
    const picture = pictureOf(record);
    if (record.isExpired || !picture || !api.isOwnPicture(picture)) return;
    this.earlier.save(Object.assign(record, { isExpired: true }));
  }

  async addThumbnail(record) {
    const picture = pictureOf(record);
    if (!picture || !api.isOwnPicture(picture)) return;
    const image = new Image();
    image.src = api.pictureUrl(picture);
    await image.decode().catch(() => {});
    if (!this.earlier.records.includes(record)) return; // removed meanwhile
    if (image.naturalWidth) await this.earlier.save(Object.assign(record, { thumbnail: thumbnail(image) }));
  }

  // One question each, one after the other, beside whatever else the visitor does.
  async checkEarlier() {
    for (const record of [...this.earlier.records]) {
      const picture = pictureOf(record);
      if (!picture || record.isExpired || !api.isOwnPicture(picture)) continue;
      if (await api.isGone(picture)) this.expired(record);
      else if (record.thumbnail === undefined) await this.addThumbnail(record); // left before it was made
    }
  }
}

async function start() {
  takeKeyFromAddress();
  try {
    const [catalogue, earlier] = await Promise.all([api.catalogue(), History.open()]);
    new Playground(catalogue, earlier).start();
  } catch (error) {
    byId("form-error").textContent = error.message;
    throw error;
  }
}

start();
