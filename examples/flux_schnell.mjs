// Flux Schnell in four steps: one call that waits; prints where the picture is.
const { BASE_URL = "http://127.0.0.1:8000", RUNPOD_API_KEY } = process.env;
const picture = {
  prompt: "A quick sketch of a mountain landscape",
  width: 1024,
  height: 1024,
  num_inference_steps: 4,
  guidance: 1.0,
  seed: 123,
};

const answer = await fetch(`${BASE_URL}/v2/black-forest-labs-flux-1-schnell/runsync`, {
  method: "POST",
  headers: { Authorization: `Bearer ${RUNPOD_API_KEY}`, "Content-Type": "application/json" },
  body: JSON.stringify({ input: picture }),
});
const job = await answer.json();
if (!answer.ok) throw new Error(job.error);
console.log(job.output.image_url);
