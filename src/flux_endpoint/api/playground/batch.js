// Cells of a sheet as batches of the server, one for each endpoint: sent at once, asked for together, stopped together.

import * as api from "./api.js";
import { TERMINAL } from "./run.js";

const PERIOD_MS = 1_000;
// As many as one question for the results of a batch has room for.
export const MOST = 100;

// Queues cells [{endpoint, input}]; each gets its job's `id`. Returns the batches. Throws ApiError, and queues none then.
export async function sendBatches(cells) {
  const byEndpoint = Map.groupBy(cells, ({ endpoint }) => endpoint.id);
  const batches = [];
  for (const [endpoint, group] of byEndpoint) {
    const { id } = await api.createBatch(endpoint);
    batches.push({ endpoint, id });
    const { requestIds } = await api.addToBatch(endpoint, id, group.map(({ input }) => ({ input })));
    for (const [index, cell] of group.entries()) cell.id = requestIds[index];
  }
  for (const { endpoint, id } of batches) await api.finalizeBatch(endpoint, id);
  return batches;
}

// Yields {id, status, output, error} of the jobs of batches at each change, until all are over.
export async function* follow(batches) {
  const seen = new Map();
  for (;;) {
    let isOver = true;
    for (const { endpoint, id } of batches) {
      const { requests } = await api.batchRequests(endpoint, id, MOST);
      for (const request of requests) {
        if (!TERMINAL.has(request.status)) isOver = false;
        if (seen.get(request.id) === request.status) continue;
        seen.set(request.id, request.status);
        yield request;
      }
    }
    if (isOver) return;
    await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
  }
}

export const cancelBatches = (batches) => Promise.allSettled(batches.map(({ endpoint, id }) => api.cancelBatch(endpoint, id)));
