// A job that a link names, of whoever made it: what the server says of it, and its input as its picture's file has it.

import * as api from "./api.js";
import { readInput } from "./metadata.js";
import { Run } from "./run.js";
import { pictureOf } from "./stage.js";

// The run of a job. Throws ApiError when there is no such job, or the key may not see it.
export async function findRun(endpoint, id) {
  const run = Run.found(endpoint, await api.status(endpoint.id, id));
  const picture = pictureOf(run.record);
  if (picture && api.isOwnPicture(picture)) run.record.input = await inputOf(picture, endpoint);
  return run;
}

// Answers tell no prompts, but files do. An expired picture leaves an empty input.
async function inputOf(url, endpoint) {
  const file = await api.pictureFile(url).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  if (!file) return {};
  const input = readInput(await file.arrayBuffer(), file.type, endpoint.input.properties);
  if (input) return input;
  const { width, height } = await createImageBitmap(file);
  return { width, height };
}
