// One scenario per run, named by the first argument; prints what the client returned as one line of JSON.
globalThis.AI_SDK_LOG_WARNINGS = false; // They would stand among what is printed.
import { createBlackForestLabs } from "@ai-sdk/black-forest-labs";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { textToImage } from "@huggingface/inference";
import { createReplicate } from "@ai-sdk/replicate";
import { createRunpod } from "@runpod/ai-sdk-provider";
import { generateImage } from "ai";
import OpenAI from "openai";
import Replicate from "replicate";
import runpodSdk from "runpod-sdk";

const { BASE_URL, API_KEY, ENDPOINT } = process.env;
const lake = { input: { prompt: "a lake", width: 256, height: 256 } };

function endpoint() {
  return runpodSdk(API_KEY, { baseUrl: BASE_URL }).endpoint(ENDPOINT);
}

async function image(options) {
  const runpod = createRunpod({ apiKey: API_KEY });
  const { image, warnings, providerMetadata } = await generateImage({
    model: runpod.image(`${BASE_URL}/${ENDPOINT}`),
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
};

console.log(JSON.stringify(await scenarios[process.argv[2]]()));
