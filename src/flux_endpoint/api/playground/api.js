// The server's public API, as any client uses it.

import { key } from "./key.js";
import { readEvents } from "./sse.js";

// Where the page is, the API is: also behind a proxy that adds a path.
export const BASE = new URL(".", location.href.split(/[?#]/)[0]).href;

const NO_ANSWER = "The server does not answer. Is it running?";

// An answer that is not 200; its message is the server's own sentence.
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, { method = "GET", headers: more = {}, body, signal, withKey = true } = {}) {
  if (withKey && !key.get() && !more.Authorization) throw new ApiError(401, "You are not signed in.");
  const headers = withKey ? { Authorization: `Bearer ${key.get()}`, ...more } : { ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let reply;
  try {
    reply = await fetch(BASE + path, { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, NO_ANSWER);
  }
  if (!reply.ok) throw new ApiError(reply.status, await words(reply));
  return reply;
}

async function words(reply) {
  try {
    return (await reply.json()).error ?? `The server answered ${reply.status}.`;
  } catch {
    return `The server answered ${reply.status} ${reply.statusText}.`;
  }
}

const json = async (path, options) => (await request(path, options)).json();

export const catalogue = () => json("v2/endpoints", { withKey: false });
export const usage = (query, signal) => json(`v2/usage?${query}`, { signal });
// Throws ApiError for a key that is none. Every good key may, whichever endpoints it opens.
export const tryKey = (value) => json("v2/usage?range=1h", { headers: { Authorization: `Bearer ${value}` } });
// The same `token` and input is the same job, however often it is sent.
export const submit = (endpoint, input, token) => json(`v2/${endpoint}/run`, { method: "POST", headers: { "Idempotency-Key": token }, body: { input } });
export const status = (endpoint, id) => json(`v2/${endpoint}/status/${encodeURIComponent(id)}`);
export const estimate = (endpoint, input, signal) => json(`v2/${endpoint}/estimate`, { method: "POST", body: { input }, signal });
// `picture`: which of the job's, 1 for the first; undefined where there is but one. Of `token` as above.
export const finish = (endpoint, id, picture, token) => json(`v2/${endpoint}/finish/${encodeURIComponent(id)}`, { method: "POST", headers: { "Idempotency-Key": token }, body: { picture } });
export const cancel = (endpoint, id) => json(`v2/${endpoint}/cancel/${id}`, { method: "POST" });

const batch = (endpoint, rest = "") => `v2/${endpoint}/batch${rest}`;
export const createBatch = (endpoint) => json(batch(endpoint), { method: "POST", body: [] });
export const addToBatch = (endpoint, id, requests) => json(batch(endpoint, `/${id}/requests`), { method: "POST", body: { requests } });
export const finalizeBatch = (endpoint, id) => json(batch(endpoint, `/${id}/finalize`), { method: "POST" });
export const batchRequests = (endpoint, id, limit) => json(batch(endpoint, `/${id}/requests?limit=${limit}`));
export const cancelBatch = (endpoint, id) => json(batch(endpoint, `/${id}/cancel`), { method: "POST" });

// The job at each change of its state or progress, until it is over; ends early when the connection does.
export async function* events(endpoint, id, signal) {
  const reply = await request(`v2/${endpoint}/events/${id}`, { signal });
  for await (const { event, data } of readEvents(reply.body)) {
    if (event === "status") yield JSON.parse(data);
    if (event === "gone") throw new ApiError(404, JSON.parse(data).error);
  }
}

// Pictures of this server are asked for at the page's own origin, whatever the server believes its public URL to be:
// so they load through any proxy, and the page needs no right to talk to another host. Others are left as they are.
export function pictureUrl(url) {
  const name = /\/images\/([A-Za-z0-9_-]+\.[a-z0-9]+)$/.exec(url);
  return name ? `${BASE}images/${name[1]}` : url;
}

// The file of a picture of this server. Throws ApiError.
export async function pictureFile(url) {
  const reply = await fetch(pictureUrl(url)).catch(() => {
    throw new ApiError(0, NO_ANSWER);
  });
  if (!reply.ok) throw new ApiError(reply.status, "This picture is no longer there.");
  return reply.blob();
}

export const isOwnPicture = (url) => pictureUrl(url).startsWith(BASE);
