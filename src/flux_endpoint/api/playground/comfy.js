// The graph that ComfyUI writes into a picture: nodes by id, whose inputs are values or links [id, output] to other nodes.

const FARTHEST = 20; // links to follow: a file may hold a circle

// What the graph says of one picture, as far as it is understood: {fields, loras, left}. Null when it has no sampler.
export function readGraph(graph) {
  const nodes = Object.values(graph).filter((node) => typeof node?.class_type === "string" && node.inputs);
  const samplers = nodes.filter(({ inputs }) => Array.isArray(inputs.latent_image) && (inputs.positive || inputs.guider));
  if (!samplers.length) return null;
  // Of several the one that begins with noise alone: the others go on from its picture.
  const sampler = samplers.find(({ inputs }) => inputs.denoise === 1) ?? samplers[0];
  const read = new Reader(graph);
  const left = samplers.length > 1 ? [`${samplers.length - 1} more samplers`] : [];
  const fields = read.fields(sampler);
  if (read.number(sampler, "denoise", "sigmas") < 1) left.push("the picture that it starts from");
  const name = sampler.inputs.sampler_name ?? read.node(sampler, "sampler")?.inputs.sampler_name;
  if (typeof name === "string") left.push(`sampler ${name}`);
  const loras = [];
  for (const { class_type: kind, inputs } of nodes) {
    if (typeof inputs.lora_name === "string") loras.push({ path: inputs.lora_name.replace(/\.(safetensors|sft)$/i, ""), scale: Number(inputs.strength_model ?? 1) });
    const model = inputs.unet_name ?? inputs.ckpt_name;
    if (typeof model === "string") left.push(`model ${model}`);
    if (/ControlNetApply|IPAdapter|StyleModel|Upscale|Inpaint/.test(kind)) left.push(kind);
  }
  return { fields, loras, left };
}

class Reader {
  #graph;
  #guidance; // of the conditioning that was read last

  constructor(graph) {
    this.#graph = graph;
  }

  // The node that an input of another is linked to.
  node(from, name) {
    const link = from?.inputs?.[name];
    const to = Array.isArray(link) ? this.#graph[link[0]] : undefined;
    return to?.inputs ? to : undefined;
  }

  // A number, which may stand in a node of its own; `through`: an input to look behind when there is none.
  number(from, name, through) {
    const value = from?.inputs?.[name];
    if (typeof value === "number") return value;
    const far = this.node(from, name);
    if (far) return ["value", name, "seed", "noise_seed", "int", "float"].map((key) => far.inputs[key]).find((one) => typeof one === "number");
    return through ? this.number(this.node(from, through), name) : undefined;
  }

  fields(sampler) {
    const guider = this.node(sampler, "guider") ?? sampler;
    const latent = this.node(sampler, "latent_image");
    const negative = this.#text(this.node(guider, "negative"));
    // Of the prompt, which is read last.
    const prompt = this.#text(this.node(guider, "positive") ?? this.node(guider, "conditioning"));
    return {
      prompt,
      negative_prompt: negative,
      width: this.number(latent, "width"),
      height: this.number(latent, "height"),
      num_inference_steps: this.number(sampler, "steps", "sigmas"),
      seed: this.number(sampler, "seed") ?? this.number(sampler, "noise_seed", "noise"),
      guidance: this.#guidance,
      true_cfg_scale: negative ? this.number(guider, "cfg") : undefined,
    };
  }

  // The words behind a conditioning; undefined for none.
  #text(from) {
    this.#guidance = undefined;
    let node = from;
    for (let far = 0; node && far < FARTHEST; far++) {
      if (node.class_type === "ConditioningZeroOut") return undefined;
      this.#guidance ??= this.number(node, "guidance");
      for (const name of ["t5xxl", "text", "clip_l", "value", "string"]) {
        if (typeof node.inputs[name] === "string") return node.inputs[name];
      }
      node = ["conditioning", "positive", "t5xxl", "text"].map((name) => this.node(node, name)).find(Boolean);
    }
    return undefined;
  }
}
