// Cells of a sheet as batches of the server, one for each endpoint: sent at once, asked for together, stopped together.

import * as api from "./api.js";
import { TERMINAL } from "./run.js";

const PERIOD_MS = 1_000;
// As many as one question for the results of a batch has room for.
export const MOST = 100;

// What is sent of one sheet. It can be cancelled at any moment, also before the server has said what its batches are called.
export class Batches {
  #queued = []; // {endpoint, id}
  #isCancelled = false;

  // A name for what comes of it.
  get name() {
    return this.#queued[0]?.id;
  }

  // Queues cells [{endpoint, input}]; each gets its job's `id`. Throws ApiError; then, and when they are cancelled
  // meanwhile, nothing stays queued.
  async send(cells) {
    const drafts = [];
    try {
      for (const [endpoint, group] of Map.groupBy(cells, (cell) => cell.endpoint.id)) {
        if (this.#isCancelled) break;
        const { id } = await api.createBatch(endpoint);
        drafts.push({ endpoint, id });
        if (this.#isCancelled) break;
        const { requestIds } = await api.addToBatch(endpoint, id, group.map(({ input }) => ({ input })));
        for (const [index, cell] of group.entries()) cell.id = requestIds[index];
      }
      while (drafts.length && !this.#isCancelled) {
        await api.finalizeBatch(drafts[0].endpoint, drafts[0].id);
        this.#queued.push(drafts.shift());
      }
    } catch (error) {
      await Promise.allSettled([...drafts, ...this.#queued].map(cancelOne));
      throw error;
    }
    await Promise.allSettled(drafts.map(cancelOne));
    if (this.#isCancelled) await this.cancel();
  }

  // Throws ApiError when the server does not take it.
  async cancel() {
    this.#isCancelled = true;
    await Promise.all(this.#queued.map(cancelOne));
  }

  // `onTrouble` is told in the server's words why there is no news, and an empty text when there is again.
  follow(onTrouble) {
    return follow(this.#queued, onTrouble);
  }
}

const cancelOne = ({ endpoint, id }) => api.cancelBatch(endpoint, id);

// Yields {id, status, output, error} of the jobs of batches at each change, until all are over.
async function* follow(batches, onTrouble) {
  const seen = new Map();
  for (;;) {
    let isOver = true;
    let trouble = "";
    for (const { endpoint, id } of batches) {
      const { requests } = await api.batchRequests(endpoint, id, MOST).catch((error) => {
        if (error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
        trouble = error.message;
        isOver = false;
        return { requests: [] };
      });
      for (const request of requests) {
        if (!TERMINAL.has(request.status)) isOver = false;
        if (seen.get(request.id) === request.status) continue;
        seen.set(request.id, request.status);
        yield request;
      }
    }
    onTrouble(trouble);
    if (isOver) return;
    await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
  }
}
