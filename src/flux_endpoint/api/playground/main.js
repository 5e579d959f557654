// The page: puts the parts together and passes what happens in one on to the others.

import { Address } from "./address.js";
import * as api from "./api.js";
import { CodeView } from "./code.js";
import { openCompare } from "./compare.js";
import { announce, byId, copyFrom } from "./dom.js";
import { takeFiles } from "./drop.js";
import { showChoice, showCost, showEndpoint } from "./endpoints.js";
import { Estimate } from "./estimate.js";
import { Film } from "./film.js";
import { Form } from "./form.js";
import { findRun } from "./found.js";
import { Gallery } from "./gallery.js";
import { History } from "./history.js";
import { key, takeKeyFromAddress } from "./key.js";
import { Queue } from "./queue.js";
import { restored, seedOf } from "./run.js";
import { Runs, newSet } from "./runs.js";
import { Sheet } from "./sheet.js";
import { SignIn } from "./signin.js";
import { Stage, pictureOf } from "./stage.js";
import { summary } from "./state.js";
import { Tabs } from "./tabs.js";
import { Thumbnails } from "./thumbnails.js";
import { Viewer } from "./viewer.js";
import { shapeWelcome, showWelcome } from "./welcome.js";
import { Words } from "./words.js";

const SEVERAL = 4;
const IS_NARROW = matchMedia("(max-width: 59.99rem)");

class Playground {
  constructor(catalogue, earlier) {
    this.catalogue = catalogue;
    this.earlier = earlier;
    this.runs = new Runs(earlier);
    this.wanted = null; // what is asked for to be looked at; another wish makes its answer come too late
    this.isFollowing = false; // the stage goes on to the next run of the queue when the one that it shows is over
    this.form = new Form();
    this.address = new Address(catalogue, this.form);
    this.stage = new Stage({
      showAll: (runs) => this.show(runs),
      compare: (run) => this.compare(run),
      copyLink: (run, button) => copyFrom(button, this.address.linkTo(run.record)),
      finish: (run) => this.finish(run),
      source: (run) => this.startFrom(run),
      favourite: (run) => this.favour(run),
      remove: (run) => this.remove(run),
    });
    this.film = new Film(this.stage);
    this.queue = new Queue(this.runs, this.stage, (set) => this.look(set));
    this.viewer = new Viewer();
    this.estimate = new Estimate(this.form);
    this.words = new Words((prompt) => (this.form.input = { ...this.form.input, prompt }));
    this.thumbnails = new Thumbnails(earlier, (record) => this.open(record));
    this.gallery = new Gallery(earlier, (record) => this.open(record));
    this.sheet = new Sheet(catalogue, this.runs, (record) => this.open(record));
    this.code = new CodeView(this.form);
    this.tabs = new Tabs((name) => name === "code" && this.code.show());
    this.signIn = new SignIn();
    showChoice(catalogue, (endpoint) => this.choose(endpoint));
    this.form.addEventListener("change", () => this.inputChanged());
    this.stage.addEventListener("choose", ({ detail }) => this.show([detail], this.stage.runs));
    this.stage.addEventListener("view", ({ detail }) => this.viewer.open(detail));
    this.stage.addEventListener("tick", () => this.showState());
    this.runs.addEventListener("progress", () => this.showState());
    this.runs.addEventListener("change", ({ detail }) => this.runChanged(detail));
    this.runs.addEventListener("split", ({ detail }) => detail.includes(this.stage.runs[0]) && this.show(detail));
    this.stage.addEventListener("gone", ({ detail }) => this.runs.expire(detail.record));
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
    byId("sheet-open").addEventListener("click", () => this.openSheet());
    byId("reset").addEventListener("click", () => this.reset());
    byId("cancel").addEventListener("click", () => this.cancel());
    byId("readme-button").addEventListener("click", () => byId("readme-dialog").showModal());
    byId("clear").addEventListener("click", () => {
      if (confirm("Forget all earlier pictures of this browser?")) this.forget();
    });
    addEventListener("keydown", (event) => this.#pressed(event));
    addEventListener("keychange", () => {
      this.code.show();
      this.estimate.ask(0);
    });
    addEventListener("hashchange", () => {
      takeKeyFromAddress();
      this.readAddress();
    });
    takeFiles(
      () => (this.form.endpoint.makesPictures ? this.form.endpoint : this.#drawing),
      (input, words) => this.load(input, words),
      async (file, target) => {
        if (!(await this.form.takePicture(file, file.name, target))) this.complain(`${file.name} carries no parameters of a picture made here.`);
      },
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
    // Before the address is written anew, which keeps them.
    const { shown } = this.address;
    if (!this.readAddress()) this.choose(this.catalogue[0]);
    this.welcome();
    this.runs.resume();
    this.showAgain(shown);
    this.runs.addThumbnails();
    byId("prompt").focus({ preventScroll: true });
  }

  // --- The input ---

  readAddress() {
    const found = this.address.read();
    if (!found) return false;
    this.choose(found.endpoint);
    if (found.job) this.openJob(found);
    else this.form.input = found.input;
    return true;
  }

  choose(endpoint) {
    this.form.setEndpoint(endpoint);
    showEndpoint(endpoint);
    this.words.setEndpoint(endpoint);
    if (!this.stage.runs.length) this.welcome();
  }

  inputChanged() {
    const size = this.form.size.value;
    showCost(this.form.endpoint, size, this.form.draft, this.form.count);
    this.estimate.ask();
    this.words.show();
    shapeWelcome(size);
    if (this.tabs.current === "code") this.code.show();
    this.address.writeSoon();
  }

  load(input, words) {
    if (!this.form.endpoint.makesPictures) this.choose(this.#drawing);
    this.form.input = input;
    byId("taken").textContent = words;
    announce(words);
  }

  reset() {
    byId("taken").textContent = "";
    this.form.reset();
    this.welcome();
    byId("prompt").focus();
  }

  // --- Runs ---

  // Those on the stage that are not over: what Cancel is for.
  get busy() {
    return this.stage.runs.concat(this.stage.all ?? []).filter(({ isOver }) => !isOver);
  }

  async run(count) {
    if (!key.get()) return this.signIn.open("", () => this.run(count));
    this.form.clearErrors();
    byId("taken").textContent = "";
    let input;
    try {
      input = this.form.input;
    } catch (error) {
      return this.form.showError(`The input is not valid JSON: ${error.message}`);
    }
    const { num_images: _, ...alone } = input;
    const inputs = count === 1 ? [input] : this.form.seed.several(count).map((seed) => ({ ...alone, seed }));
    const runs = newSet(this.form.endpoint, inputs);
    this.address.write();
    // What is looked at while it is drawn stays; what is sent now waits its turn in the queue.
    const isNext = this.busy.length > 0;
    this.wanted = null;
    const before = [this.stage.runs, this.stage.all];
    if (!isNext) this.look(runs);
    this.isFollowing = true;
    try {
      await this.runs.send(runs, () => {
        if (isNext) announce("Added to the queue");
        else if (IS_NARROW.matches) document.querySelector(".stage").scrollIntoView({ block: "start" });
      });
    } catch (error) {
      // Unless something else is looked at by now.
      if ([this.stage.runs, this.stage.all].includes(runs)) {
        this.show(...(error.sent.length ? [error.sent] : before));
        if (!this.stage.runs.length) this.welcome();
      }
      if (error.status === 401) this.signIn.open(error.message, () => this.run(count));
      else this.form.showError(error.message);
    }
    this.rememberShown();
  }

  async finish(run) {
    this.complain("");
    const before = this.stage.runs;
    const show = (rest) => this.stage.runs === before && this.look([rest]); // unless something else is looked at by now
    await this.runs.finish(run).then(show, (error) => this.refused(error, () => this.finish(run)));
  }

  openSheet() {
    if (!key.get()) return this.signIn.open("", () => this.openSheet());
    const { num_images: _, ...input } = this.form.input;
    if (!input.prompt.trim()) return this.form.showError("Invalid parameter: prompt must not be empty");
    this.sheet.open(this.form.endpoint, input, this.form.seed.draw());
  }

  // A run has begun, changed its state or ended.
  runChanged(run) {
    this.thumbnails.show();
    this.showState();
    if (run.isOver) this.estimate.ask();
    if (!this.isFollowing || this.busy.length) return;
    const next = this.runs.sets.find((set) => set.some(({ record }) => record.status === "IN_PROGRESS"));
    if (next) this.show(next);
  }

  async cancel() {
    this.complain("");
    await this.runs.cancel(this.busy).catch((error) => this.refused(error, () => this.cancel()));
    this.showState();
  }

  refused({ status, message }, again) {
    if (status === 401) this.signIn.open(message, again);
    else this.complain(message);
  }

  complain(words) {
    byId("form-error").textContent = words;
  }

  // --- The stage ---

  welcome() {
    this.show([]);
    showWelcome(
      this.form.endpoint,
      ({ endpoint, input }) => {
        this.choose(this.catalogue.find(({ id }) => id === endpoint) ?? this.form.endpoint);
        this.form.input = input;
        this.run(1);
      },
      (prompt) => {
        this.form.input = { ...this.form.input, prompt };
        byId("prompt").focus();
      },
    );
    shapeWelcome(this.form.size.value);
  }

  show(runs, all = null) {
    this.stage.show(runs, all);
    this.showState();
    this.queue.show();
    this.rememberShown();
  }

  // A set that is not over, or one that begins.
  look(set) {
    if (this.tabs.current === "code") this.tabs.show("picture");
    this.show(set);
  }

  rememberShown() {
    const shown = (this.stage.all ?? this.stage.runs).filter(({ record }) => !record.id || this.earlier.get(record.id));
    this.address.shown = shown.map(({ record }) => record.id ?? record.token);
  }

  showAgain(names) {
    const runs = names.map((name) => this.runs.get(name) ?? this.runs.kept(name)).filter(Boolean);
    if (runs.length) this.show(runs);
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
    byId("run-text").textContent = isBusy ? "Add to queue" : "Run";
    byId("run-keys").hidden = isBusy;
    this.film.show();
    document.title = isBusy ? `${text} · flux-endpoint` : "Playground · flux-endpoint";
    // Steps are shown, not read out.
    const spoken = state === "busy" && runs.some(({ record }) => record.status === "IN_PROGRESS") ? "Running" : text;
    if (spoken !== this.spoken) announce((this.spoken = spoken));
    if (runs.length === 1 && runs[0].record.status === "COMPLETED") this.form.seed.last = seedOf(runs[0].record);
  }

  // --- Earlier pictures ---

  open(record) {
    this.wanted = null;
    const run = this.runs.get(record.id) ?? restored(record);
    // One of another tab, which may be closed.
    if (!run.isOver && !this.runs.get(record.id)) this.runs.follow(run);
    this.isFollowing = false;
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
    if (this.earlier.get(job)) return this.open(this.earlier.get(job));
    const asked = (this.wanted = {});
    try {
      const run = await findRun(endpoint, job);
      if (this.wanted !== asked) return;
      this.runs.watch(run);
      this.open(run.record);
    } catch (error) {
      this.complain(error.message);
    }
  }

  remove(run) {
    this.welcome();
    byId("prompt").focus();
    return this.earlier.remove([run.record.id]);
  }

  async forget() {
    await this.earlier.clear();
    this.rememberShown();
  }

  compare(run) {
    this.tabs.show("picture");
    this.thumbnails.pick((other) => openCompare(run.record, other));
    byId("thumbnails").querySelector("button:not(:disabled)")?.focus();
  }

  // The next picture starts from one that was drawn.
  async startFrom({ record }) {
    try {
      await this.form.takePicture(await api.pictureFile(pictureOf(record)), record.input.prompt);
      byId("prompt").focus();
    } catch (error) {
      this.complain(error.message);
    }
  }

  favour({ record }) {
    this.earlier.save(Object.assign(record, { isFavourite: !record.isFavourite }));
    this.stage.update();
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
