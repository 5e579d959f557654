// Visits for as long as lines come in: each names a scenario and its prompt; answers each with a line of JSON.
import { createInterface } from "node:readline";
import { createRunpod } from "@runpod/ai-sdk-provider";
import { generateImage } from "ai";
import runpodSdk from "runpod-sdk";

const { BASE_URL, API_KEY, ENDPOINT } = process.env;
const endpoint = () => runpodSdk(API_KEY, { baseUrl: BASE_URL }).endpoint(ENDPOINT);
const small = { width: 256, height: 256, num_inference_steps: 2 };

const scenarios = {
  async runSync(prompt) {
    const { id, status } = await endpoint().runSync({ input: { prompt, ...small } });
    return { id, status };
  },
  async runThenStatus(prompt) {
    const began = Date.now();
    const { id } = await endpoint().run({ input: { prompt, ...small } });
    const runMs = Date.now() - began;
    const { status } = await endpoint().statusSync(id, 60000);
    return { id, status, runMs };
  },
  async stream(prompt) {
    const { id } = await endpoint().run({ input: { prompt, ...small, num_inference_steps: 4 } });
    let chunks = 0;
    for await (const _ of endpoint().stream(id)) chunks += 1;
    return { id, status: (await endpoint().status(id)).status, chunks };
  },
  async image(prompt) {
    const runpod = createRunpod({ apiKey: API_KEY });
    const { image } = await generateImage({
      model: runpod.image(`${BASE_URL}/${ENDPOINT}`),
      prompt,
      size: "512x512",
      providerOptions: { runpod: { num_inference_steps: 1 } },
    });
    return { status: image.base64.length > 1000 ? "COMPLETED" : "EMPTY" };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { name, prompt } = JSON.parse(line);
  try {
    console.log(JSON.stringify(await scenarios[name](prompt)));
  } catch (error) {
    console.log(JSON.stringify({ failed: `${name}: ${error.stack ?? error}` }));
  }
}
