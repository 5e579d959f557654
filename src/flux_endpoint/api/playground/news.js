// What happens to jobs. A browser opens six connections to a server, for all its tabs together: so one job of those that are
// followed has a connection of its own, and the others are asked for one after the other. A tab that nobody sees gives its
// connection up as soon as another one is looked at.

import * as api from "./api.js";

const PAUSE_MS = 500;
const LOOK_MS = 10_000;

const followed = new Set();
let turn = Promise.resolve();

const tabs = new BroadcastChannel("flux-endpoint.news");
let isBehind = false; // another tab is looked at, and this one is not
let others = new AbortController();
tabs.onmessage = () => {
  if (!document.hidden) return;
  isBehind = true;
  others.abort();
};

function seen() {
  if (document.hidden) return;
  isBehind = false;
  others = new AbortController();
  tabs.postMessage("seen");
}

document.addEventListener("visibilitychange", seen);
seen();

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A job at each change of its state or progress. Ends with the job at the latest; throws ApiError.
export async function* newsOf(endpoint, id) {
  const follower = {};
  followed.add(follower);
  try {
    for (;;) {
      const [first] = followed;
      if (first === follower && !isBehind) {
        const { signal } = others;
        try {
          return yield* api.events(endpoint, id, signal);
        } catch (error) {
          if (!signal.aborted) throw error;
        }
      }
      const body = await inTurn(() => look(endpoint, id));
      if (!body) return;
      yield body;
      await sleep(PAUSE_MS);
    }
  } finally {
    followed.delete(follower);
  }
}

function inTurn(action) {
  const done = turn.then(action);
  turn = done.catch(() => {});
  return done;
}

// Leaves the connection after the first message, which tells all.
async function look(endpoint, id) {
  for await (const body of api.events(endpoint, id, AbortSignal.timeout(LOOK_MS))) return body;
}
