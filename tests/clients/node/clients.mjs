// Scenarios by name; prints what the client returned as one line of JSON, by name where there are several.
globalThis.AI_SDK_LOG_WARNINGS = false; // They would stand among what is printed.
import { createBlackForestLabs } from "@ai-sdk/black-forest-labs";
import { createFal } from "@ai-sdk/fal";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { textToImage } from "@huggingface/inference";
import { createTogetherAI } from "@ai-sdk/togetherai";
import { createReplicate } from "@ai-sdk/replicate";
import { createFalClient } from "@fal-ai/client";
import { createRunpod } from "@runpod/ai-sdk-provider";
import { generateImage } from "ai";
import OpenAI from "openai";
import Replicate from "replicate";
import runpodSdk from "runpod-sdk";
import Together from "together-ai";

const { BASE_URL, API_KEY, ENDPOINT } = process.env;
// A grey pixel.
const PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";
const lake = { input: { prompt: "a lake", width: 256, height: 256 } };

function endpoint() {
  return runpodSdk(API_KEY, { baseUrl: BASE_URL }).endpoint(ENDPOINT);
}

async function image(options, endpoint = ENDPOINT) {
  const runpod = createRunpod({ apiKey: API_KEY });
  const { image, warnings, providerMetadata } = await generateImage({
    model: runpod.image(`${BASE_URL}/${endpoint}`),
    prompt: "a lake",
    ...options,
  });
  return { mediaType: image.mediaType, base64: image.base64, warnings, metadata: providerMetadata.runpod.images[0] };
}

const openaiBase = BASE_URL.replace(/v2$/, "v1");

function openai() {
  return new OpenAI({ baseURL: openaiBase, apiKey: API_KEY });
}

async function imageOf(model, options) {
  const { images, warnings } = await generateImage({ model, prompt: "a lake", size: "256x256", ...options });
  return { warnings, images: images.map(({ mediaType, base64 }) => ({ mediaType, base64 })) };
}

const falBase = BASE_URL.replace(/v2$/, "fal");
const falInput = { prompt: "a lake", image_size: { width: 256, height: 256 }, seed: 2 ** 32 + 5, output_format: "png" };

function fal() {
  return createFalClient({ credentials: API_KEY, proxyUrl: { url: `${falBase}/proxy`, when: "always" } });
}

// What a client tells of an error.
async function problem(asking) {
  try {
    await asking;
  } catch (error) {
    const { status, statusCode, message, requestId } = error;
    return { status: status ?? statusCode, message, requestId };
  }
}

const scenarios = {
  runSync: () => endpoint().runSync(lake),
  async runThenStatus() {
    const { id } = await endpoint().run(lake);
    const held = await endpoint().statusSync(id, 60000);
    return { held, status: await endpoint().status(id) };
  },
  async cancelHealthPurge() {
    const { id } = await endpoint().run(lake);
    const cancelled = await endpoint().cancel(id);
    return { cancelled, health: await endpoint().health(), purged: await endpoint().purgeQueue() };
  },
  async stream() {
    const { id } = await endpoint().run({ input: { ...lake.input, num_inference_steps: 50 } });
    const chunks = [];
    for await (const chunk of endpoint().stream(id)) chunks.push(chunk);
    return { chunks, status: await endpoint().status(id) };
  },
  async badInput() {
    try {
      await endpoint().runSync({ input: { prompt: "a lake", width: 100 } });
    } catch (error) {
      return { status: error.response.status, body: error.response.data };
    }
  },
  imageDefaultSize: () => image({}),
  imageSizeAndSeed: () => image({ size: "1024x768", seed: 42 }),
  imageAspectRatio: () => image({ aspectRatio: "4:3" }),
  imageProviderOptions: () =>
    image({ size: "512x512", providerOptions: { runpod: { num_inference_steps: 3, image_format: "jpeg", maxPollAttempts: 9 } } }),
  imageChanged: () =>
    image(
      { prompt: { text: "make it winter", images: [Buffer.from(PICTURE, "base64")] }, size: "768x512", seed: 3 },
      "black-forest-labs-flux-1-kontext-dev",
    ),
  async imageRefused() {
    try {
      await image({ size: "512x512", providerOptions: { runpod: { num_inference_steps: 99 } } });
    } catch (error) {
      return { message: error.message, status: error.statusCode };
    }
  },
  openaiImages: () =>
    openai().images.generate({ model: "flux-dev", prompt: "a lake", size: "256x256", n: 2, seed: 5, steps: 2 }),
  async openaiStream() {
    const stream = await openai().images.generate({ prompt: "a lake", size: "256x256", stream: true, partial_images: 1 });
    const types = [];
    for await (const event of stream) types.push(event.type);
    return types;
  },
  async openaiRefused() {
    try {
      await openai().images.generate({ prompt: "a lake", n: 11 });
    } catch ({ status, message, param }) {
      return { status, message, param };
    }
  },
  aiSdkOpenai: () => imageOf(createOpenAI({ baseURL: openaiBase, apiKey: API_KEY }).image("flux-schnell"), {}),
  aiSdkOpenaiCompatible: () =>
    imageOf(
      createOpenAICompatible({ name: "flux", baseURL: openaiBase, apiKey: API_KEY }).imageModel("flux-dev"),
      { n: 2, providerOptions: { flux: { seed: 9, steps: 3 } } },
    ),
  async aiSdkOpenaiRefused() {
    try {
      await imageOf(createOpenAI({ baseURL: openaiBase, apiKey: API_KEY }).image("flux-dev"), { size: "100x100" });
    } catch ({ statusCode, message }) {
      return { statusCode, message };
    }
  },
  aiSdkBlackForestLabs: () =>
    imageOf(createBlackForestLabs({ baseURL: openaiBase, apiKey: API_KEY }).image("flux-dev"), {
      seed: 4,
      providerOptions: { blackForestLabs: { steps: 3 } },
    }),
  async aiSdkBlackForestLabsRefused() {
    try {
      await imageOf(createBlackForestLabs({ baseURL: openaiBase, apiKey: API_KEY }).image("flux-dev"), { size: "100x100" });
    } catch ({ statusCode, message }) {
      return { statusCode, message };
    }
  },
  async huggingface() {
    const parameters = { width: 256, height: 256, seed: 6, num_inference_steps: 3 };
    const endpointUrl = BASE_URL.replace(/v2$/, "hf/flux-dev");
    const blob = await textToImage({ endpointUrl, accessToken: API_KEY, inputs: "a lake", parameters });
    return { mediaType: blob.type, base64: Buffer.from(await blob.arrayBuffer()).toString("base64") };
  },
  async huggingfaceRefused() {
    const endpointUrl = BASE_URL.replace(/v2$/, "hf/flux-dev");
    try {
      await textToImage({ endpointUrl, accessToken: API_KEY, inputs: "a lake", parameters: { width: 1 } });
    } catch ({ message, httpResponse }) {
      return { message, status: httpResponse.status };
    }
  },
  async replicate() {
    const replicate = new Replicate({ auth: API_KEY, baseUrl: openaiBase });
    const input = { prompt: "a lake", width: 256, height: 256, seed: 8, output_format: "png" };
    const lines = [];
    const [picture] = await replicate.run("black-forest-labs/flux-dev", { input }, ({ status }) => lines.push(status));
    const data = Buffer.from(await (await picture.blob()).arrayBuffer());
    return { mediaType: "image/png", base64: data.toString("base64"), lines };
  },
  async replicateRefused() {
    const replicate = new Replicate({ auth: API_KEY, baseUrl: openaiBase });
    try {
      await replicate.run("black-forest-labs/flux-dev", { input: { prompt: "a lake", width: 1 } });
    } catch ({ message }) {
      return { message };
    }
  },
  aiSdkReplicate: () =>
    imageOf(createReplicate({ baseURL: openaiBase, apiToken: API_KEY }).image("black-forest-labs/flux-schnell"), { seed: 3 }),
  async falRun() {
    const { data, requestId } = await fal().run("fal-ai/flux/schnell", { input: { ...falInput, sync_mode: true } });
    return { data, requestId };
  },
  falRefused: () => problem(fal().queue.submit("fal-ai/flux/dev", { input: { prompt: "" } })),
  async falSubscribe() {
    const answers = [];
    for (const mode of ["polling", "streaming"]) {
      const states = [];
      const onQueueUpdate = ({ status }) => states.push(status);
      const input = { ...falInput, num_inference_steps: 6 };
      const { data } = await fal().subscribe("fal-ai/flux/dev", { input, mode, logs: true, pollInterval: 50, onQueueUpdate });
      answers.push({ seed: data.seed, states });
    }
    return answers;
  },
  async falCancel() {
    const input = { ...falInput, num_inference_steps: 50 };
    const { request_id: requestId } = await fal().queue.submit("fal-ai/flux/dev", { input });
    await fal().queue.cancel("fal-ai/flux/dev", { requestId });
    const { status } = await fal().queue.status("fal-ai/flux/dev", { requestId });
    return { status, problem: await problem(fal().queue.result("fal-ai/flux/dev", { requestId })), requestId };
  },
  falFailed: () => problem(fal().subscribe("fal-ai/flux/dev", { input: falInput })),
  falUpload: () => problem(fal().run("fal-ai/flux/dev", { input: { ...falInput, image_url: new Blob(["x"]) } })),
  async falStream() {
    const stream = await fal().stream("fal-ai/flux/dev", { input: falInput });
    return await stream.done();
  },
  aiSdkFal: () => imageOf(createFal({ baseURL: `${falBase}/run`, apiKey: API_KEY }).image("fal-ai/flux/dev"), { seed: 3, n: 2 }),
  aiSdkFalRefused: () =>
    problem(imageOf(createFal({ baseURL: `${falBase}/run`, apiKey: API_KEY }).image("fal-ai/flux/dev"), { size: "100x100" })),
  aiSdkFalFailed: () =>
    problem(imageOf(createFal({ baseURL: `${falBase}/run`, apiKey: API_KEY }).image("fal-ai/flux/dev"), { maxRetries: 0 })),
  async together() {
    const client = new Together({ baseURL: openaiBase, apiKey: API_KEY });
    const asked = { model: "black-forest-labs/FLUX.1-schnell", prompt: "a lake", width: 256, height: 256, seed: 5, n: 2 };
    const links = await client.images.generate({ ...asked, response_format: "url" });
    const bytes = await client.images.generate({ ...asked, steps: 3, response_format: "base64" });
    return { links: links.data, bytes: bytes.data };
  },
  togetherRefused: () =>
    problem(new Together({ baseURL: openaiBase, apiKey: API_KEY }).images.generate({ model: "flux-dev", prompt: "a lake", width: 1 })),
  togetherFailed: () =>
    problem(new Together({ baseURL: openaiBase, apiKey: API_KEY }).images.generate({ model: "flux-dev", prompt: "a lake" })),
  aiSdkTogether: () =>
    imageOf(createTogetherAI({ baseURL: openaiBase, apiKey: API_KEY }).image("black-forest-labs/FLUX.1-schnell"), { seed: 4 }),
  aiSdkTogetherRefused: () =>
    problem(imageOf(createTogetherAI({ baseURL: openaiBase, apiKey: API_KEY }).image("flux-dev"), { size: "100x100" })),
};

const names = process.argv.slice(2);
const results = {};
for (const name of names) results[name] = await scenarios[name]();
console.log(JSON.stringify(names.length === 1 ? results[names[0]] : results));
