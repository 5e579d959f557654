// What happens to jobs. A browser opens six connections to a server, for all its tabs together: so one job of those that are
// followed has a connection of its own, and the others are asked for one after the other.

import * as api from "./api.js";

const PAUSE_MS = 500;
const LOOK_MS = 10_000;

const followed = new Set();
let turn = Promise.resolve();

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A job at each change of its state or progress. Ends with the job at the latest; throws ApiError.
export async function* newsOf(endpoint, id) {
  const follower = {};
  followed.add(follower);
  try {
    for (;;) {
      const [first] = followed;
      if (first === follower) return yield* api.events(endpoint, id);
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
