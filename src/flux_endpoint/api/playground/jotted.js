// What is about to be sent or kept, written down at once for the page that comes after this one: a page that is left waits
// for no answer, and not for IndexedDB either.

const PREFIX = "flux-endpoint.jotted.";

// What a record is called until it has an id.
const nameOf = ({ id, token }) => PREFIX + (id ?? token);

export const jotted = {
  // Returns what was written, for `drop`.
  note(record) {
    const text = JSON.stringify(record);
    try {
      localStorage.setItem(nameOf(record), text);
    } catch {
      // No room: then it is kept a moment later, or sent by this page only.
    }
    return text;
  },

  // With `text` only when nothing newer was written since.
  drop(record, text = null) {
    const name = nameOf(record);
    if (text === null || localStorage.getItem(name) === text) localStorage.removeItem(name);
  },

  get all() {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX));
    // Another tab may have dropped one meanwhile.
    const records = names.map((name) => JSON.parse(localStorage.getItem(name))).filter(Boolean);
    return records.sort((a, b) => a.createdMs - b.createdMs);
  },
};
