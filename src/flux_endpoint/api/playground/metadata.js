// Reads the parameters that the server wrote into a picture file: PNG text chunks, or EXIF's UserComment in a JPEG.

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const TEXTS = new Set(["prompt", "negative_prompt"]);
const NUMBERS = new Set(["seed", "width", "height", "guidance", "true_cfg_scale"]);

// The input of the job that drew a file; null when it is no picture made here.
export function readInput(buffer) {
  const bytes = new Uint8Array(buffer);
  const isPng = PNG.every((byte, index) => bytes[index] === byte);
  const isJpeg = bytes[0] === 0xff && bytes[1] === 0xd8;
  if (!isPng && !isJpeg) return null;
  let parameters;
  try {
    parameters = isPng ? pngTexts(bytes) : jpegComment(bytes);
  } catch {
    // Cut or damaged: reads beyond the end, texts that are no JSON.
    return null;
  }
  return parameters && toInput(parameters, isPng ? "png" : "jpeg");
}

// Values are checked one by one: a file may come from anywhere.
function toInput(parameters, format) {
  const input = {};
  for (const [name, value] of Object.entries(parameters)) {
    const field = name === "steps" ? "num_inference_steps" : name;
    if (TEXTS.has(field)) input[field] = String(value);
    else if (NUMBERS.has(field) || field === "num_inference_steps") {
      const number = Number(value);
      if (Number.isFinite(number)) input[field] = number;
    }
  }
  if (!input.prompt || input.seed === undefined) return null;
  return { ...input, image_format: format };
}

function pngTexts(bytes) {
  const view = new DataView(bytes.buffer);
  const texts = {};
  for (let at = PNG.length; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "tEXt") {
      const end = data.indexOf(0);
      texts[latin1(data.subarray(0, end))] = latin1(data.subarray(end + 1));
    } else if (kind === "iTXt") {
      const end = data.indexOf(0);
      // Keyword, 0, compressed?, method, language, 0, translated keyword, 0, text. Ours are never compressed.
      const language = data.indexOf(0, end + 3);
      const translated = data.indexOf(0, language + 1);
      if (data[end + 1] === 0) texts[latin1(data.subarray(0, end))] = new TextDecoder().decode(data.subarray(translated + 1));
    } else if (kind === "IEND") break;
    at += 12 + length;
  }
  return texts;
}

// ISO 8859-1 proper: what TextDecoder calls latin1 is Windows-1252.
function latin1(bytes) {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

const EXIF_POINTER = 0x8769;
const USER_COMMENT = 0x9286;
const UNICODE_MARK = "UNICODE\0";

function jpegComment(bytes) {
  const view = new DataView(bytes.buffer);
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff; at += 2 + view.getUint16(at + 2)) {
    const isExif = bytes[at + 1] === 0xe1 && latin1(bytes.subarray(at + 4, at + 10)) === "Exif\0\0";
    if (isExif) return exifComment(bytes.slice(at + 10, at + 2 + view.getUint16(at + 2)));
    if (bytes[at + 1] === 0xda) return null; // the picture itself begins
  }
  return null;
}

function exifComment(block) {
  const view = new DataView(block.buffer);
  const isLittle = view.getUint16(0) === 0x4949;
  const directory = entry(view, view.getUint32(4, isLittle), EXIF_POINTER, isLittle);
  if (directory === null) return null;
  const comment = entry(view, view.getUint32(directory + 8, isLittle), USER_COMMENT, isLittle);
  if (comment === null) return null;
  const offset = view.getUint32(comment + 8, isLittle);
  const data = block.subarray(offset, offset + view.getUint32(comment + 4, isLittle));
  if (latin1(data.subarray(0, 8)) !== UNICODE_MARK) return null;
  // Writers do not agree on the byte order of this text; ours begins with "{", whose first byte tells.
  return JSON.parse(new TextDecoder(data[8] === 0 ? "utf-16be" : "utf-16le").decode(data.subarray(8)));
}

// Where the entry of a tag begins in a directory of the EXIF block; null when it is not there.
function entry(view, directory, tag, isLittle) {
  const count = view.getUint16(directory, isLittle);
  for (let at = directory + 2; at < directory + 2 + 12 * count; at += 12) {
    if (view.getUint16(at, isLittle) === tag) return at;
  }
  return null;
}
