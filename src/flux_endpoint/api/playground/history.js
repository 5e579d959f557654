// Earlier pictures of this browser, newest first, in IndexedDB. Holds inputs, answers and thumbnails; never the key.

import { jotted } from "./jotted.js";
import { TERMINAL } from "./run.js";

const DATABASE = "flux-endpoint";
const STORE = "runs";
const LIMIT = 5_000;

function promised(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function committed(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error);
  });
}

// Dispatches "change" when anything is added, changed or removed, in whichever tab.
export class History extends EventTarget {
  #database = null;
  #isFull = false;
  #records = [];
  #gone = new Set(); // ids that were removed here
  #others = new BroadcastChannel(DATABASE);

  // The records stay in memory too: a browser that keeps nothing (a private window) still shows this visit's.
  static async open() {
    const history = new History();
    try {
      const opening = indexedDB.open(DATABASE, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id" });
      history.#database = await promised(opening);
      history.#records = await promised(history.#store("readonly").getAll());
      history.#records.sort((a, b) => b.createdMs - a.createdMs);
      // What the last page had no time to keep; another tab may have kept its end since.
      history.saveAll(jotted.all.filter(({ id }) => id && !TERMINAL.has(history.get(id)?.status)));
    } catch {
      history.#database = null;
    }
    history.#others.onmessage = ({ data }) => history.#heard(data);
    return history;
  }

  get isKept() {
    return this.#database !== null && !this.#isFull;
  }

  get records() {
    return this.#records;
  }

  get(id) {
    return this.#records.find((record) => record.id === id);
  }

  // The pictures of a job that drew several, the first of them first.
  ofJob(job) {
    return this.#records.filter((record) => record.job === job).sort((a, b) => a.picture - b.picture);
  }

  save(record) {
    return this.saveAll([record]);
  }

  // Where the browser keeps no more they stay in memory. Never throws.
  async saveAll(records) {
    for (const record of records) {
      this.#gone.delete(record.id);
      this.#put(record);
    }
    const surplus = this.#records.splice(LIMIT);
    this.#changed();
    if (!this.#database || !records.length) return;
    const texts = records.map((record) => jotted.note(record));
    const wasFull = this.#isFull;
    try {
      const store = this.#store("readwrite");
      for (const { id } of surplus) store.delete(id);
      await Promise.all([...records.map((record) => promised(store.put(record))), committed(store.transaction)]);
      this.#isFull = false;
      this.#others.postMessage({ saved: records.map(({ id }) => id) });
    } catch {
      this.#isFull = true;
    }
    for (const [index, record] of records.entries()) jotted.drop(record, texts[index]);
    if (this.#isFull !== wasFull) this.#changed();
  }

  // Those with these ids. Never throws.
  async remove(ids) {
    this.#drop(ids);
    for (const id of ids) jotted.drop({ id });
    this.#changed();
    try {
      const store = this.#database && this.#store("readwrite");
      if (store) await Promise.all(ids.map((id) => promised(store.delete(id))));
    } catch {
      // Then they are gone until the page is opened again.
    }
    this.#others.postMessage({ removed: ids });
  }

  clear() {
    return this.remove(this.#records.map(({ id }) => id));
  }

  // What another tab has done.
  async #heard({ saved, removed }) {
    if (removed) this.#drop(removed);
    else if (this.#database) {
      const store = this.#store("readonly");
      for (const record of await Promise.all(saved.map((id) => promised(store.get(id))))) {
        // Meanwhile it was removed here, or is over, which the other tab did not know.
        if (!record || this.#gone.has(record.id)) continue;
        const known = this.get(record.id);
        if (TERMINAL.has(known?.status) && !TERMINAL.has(record.status)) continue;
        // The object that others here hold on to stays the same.
        this.#put(Object.assign(known ?? record, record));
      }
    }
    this.#changed();
  }

  #drop(ids) {
    for (const id of ids) this.#gone.add(id);
    this.#records = this.#records.filter(({ id }) => !this.#gone.has(id));
  }

  #put(record) {
    const index = this.#records.findIndex(({ id }) => id === record.id);
    if (index >= 0) this.#records[index] = record;
    else this.#records.splice(this.#records.findIndex(({ createdMs }) => createdMs <= record.createdMs) >>> 0, 0, record);
  }

  #store(mode) {
    return this.#database.transaction(STORE, mode).objectStore(STORE);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

const THUMBNAIL_PX = 192;

// A small square JPEG of a loaded <img>, as a data: URL; null when another host's picture must not be read.
export function thumbnail(image) {
  const side = Math.min(image.naturalWidth, image.naturalHeight);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = THUMBNAIL_PX;
  const left = (image.naturalWidth - side) / 2;
  const top = (image.naturalHeight - side) / 2;
  canvas.getContext("2d").drawImage(image, left, top, side, side, 0, 0, THUMBNAIL_PX, THUMBNAIL_PX);
  try {
    return canvas.toDataURL("image/jpeg", 0.8);
  } catch {
    return null;
  }
}
