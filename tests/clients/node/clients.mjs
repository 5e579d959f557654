// One scenario per run, named by the first argument; prints what the client returned as one line of JSON.
import { createRunpod } from "@runpod/ai-sdk-provider";
import { experimental_generateImage as generateImage } from "ai";
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
};

console.log(JSON.stringify(await scenarios[process.argv[2]]()));
