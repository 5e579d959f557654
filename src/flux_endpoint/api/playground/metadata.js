// Reads the parameters that the server wrote into a picture file: JSON in XMP; before there was XMP, PNG text chunks, or
// EXIF's UserComment in any other.

import { isText } from "./format.js";
import { lorasOf } from "./loras.js";
import { PICTURES } from "./pictures.js";

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const PARAMETERS = /<fluxEndpoint:parameters>(.*?)<\/fluxEndpoint:parameters>/s;
const ENTITIES = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
// What the file calls otherwise.
const NAMES = { steps: "num_inference_steps" };

// The input of the job that drew a file; null when it is no picture made here.
// mediaType: of the file, as the browser tells it; properties: the schemas of an endpoint's inputs, by name.
export function readInput(buffer, mediaType, properties) {
  const bytes = new Uint8Array(buffer);
  let parameters;
  try {
    parameters = xmpParameters(bytes) ?? beforeXmp(bytes);
  } catch {
    // Cut or damaged: reads beyond the end, texts that are no JSON.
    return null;
  }
  return parameters && toInput({ ...parameters, image_format: mediaType.replace("image/", "") }, properties);
}

// The texts of a PNG by their names; none of any other file, or of one that is cut.
export function readTexts(buffer) {
  const bytes = new Uint8Array(buffer);
  try {
    return isPng(bytes) ? pngTexts(bytes) : {};
  } catch {
    return {};
  }
}

const isPng = (bytes) => PNG.every((byte, index) => bytes[index] === byte);

// The packet is plain text in every format, so it is where it begins. The page's policy allows no DOMParser.
function xmpParameters(bytes) {
  const [, text] = new TextDecoder().decode(bytes).match(PARAMETERS) ?? [];
  return text ? JSON.parse(text.replace(/&(lt|gt|quot|apos|amp);/g, (_, name) => ENTITIES[name])) : null;
}

function beforeXmp(bytes) {
  const texts = isPng(bytes) ? pngTexts(bytes) : exifComment(bytes);
  return texts?.prompt ? texts : null;
}

// Values are checked one by one: a file may come from anywhere.
function toInput(parameters, properties) {
  const input = {};
  for (const [name, value] of Object.entries(parameters)) {
    const field = NAMES[name] ?? name;
    // Of the pictures that it was drawn from a file tells the hashes.
    if (PICTURES.includes(field)) continue;
    if (!properties[field]) continue;
    const { type, enum: choices } = properties[field];
    if (field === "loras") input[field] = lorasOf(value);
    else if (isText(properties[field])) {
      if (!choices || choices.includes(value)) input[field] = String(value);
    } else if (type && Number.isFinite(Number(value))) input[field] = Number(value);
  }
  // Servers may keep prompts out of files.
  return input.seed !== undefined ? input : null;
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

// Of an EXIF block, big-endian and little-endian.
const HEADS = [
  [0x4d, 0x4d, 0x00, 0x2a],
  [0x49, 0x49, 0x2a, 0x00],
];
const EXIF_POINTER = 0x8769;
const USER_COMMENT = 0x9286;
const UNICODE_MARK = "UNICODE\0";

// Formats put the block at different places, and none of them changes its bytes: it is where its head is.
function exifComment(bytes) {
  for (let at = 0; at + 8 <= bytes.length; at++) {
    if (!HEADS.some((head) => head.every((byte, index) => bytes[at + index] === byte))) continue;
    try {
      const comment = commentOf(bytes.slice(at));
      if (comment !== null) return comment;
    } catch {
      // Pixels that happen to look like a head.
    }
  }
  return null;
}

function commentOf(block) {
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
