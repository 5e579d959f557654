// Queue a picture, ask every two seconds how it stands, print where it is.
const { BASE_URL = "http://127.0.0.1:8000", RUNPOD_API_KEY } = process.env;
const url = `${BASE_URL}/v2/black-forest-labs-flux-1-dev`;
const picture = { prompt: "A futuristic cityscape with flying cars", num_inference_steps: 50, guidance: 8.0 };

async function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${RUNPOD_API_KEY}`, "Content-Type": "application/json" };
  const answer = await fetch(url + path, { headers, ...options });
  const job = await answer.json();
  if (!answer.ok) throw new Error(job.error);
  return job;
}

const { id } = await ask("/run", { method: "POST", body: JSON.stringify({ input: picture }) });
let job = await ask(`/status/${id}`);
while (job.status === "IN_QUEUE" || job.status === "IN_PROGRESS") {
  await new Promise((resolve) => setTimeout(resolve, 2000));
  job = await ask(`/status/${id}`);
}
if (job.status !== "COMPLETED") throw new Error(`${job.status}: ${job.error}`);
console.log(job.output.image_url);
