// An animated WebP file made of still ones: the container's parts, as its specification at Google names them.

const TYPE = "image/webp";
const QUALITY = 0.9;
const PICTURE_CHUNKS = new Set(["ALPH", "VP8 ", "VP8L"]);
const HAS_ANIMATION = 0x02;
const HAS_ALPHA = 0x10;
const REPLACES = 0x02; // a frame is not blended with the one before it
const VP8L_ALPHA = 0x10; // of a lossless picture's fifth byte

// What stands on a canvas as a still file. Throws Error where the browser cannot write it.
export async function still(canvas) {
  const file = await new Promise((resolve) => canvas.toBlob(resolve, TYPE, QUALITY));
  // Safari writes another format in its place.
  if (file?.type !== TYPE) throw new Error("This browser cannot write WebP files.");
  return new Uint8Array(await file.arrayBuffer());
}

// Joins still WebP files, all of one size in pixels, to one that begins anew at its end.
// frames: [{file: Uint8Array, durationMs}]. Throws RangeError when a file is no WebP.
export function animated(frames, { width, height }) {
  const pictures = frames.map(({ file }) => chunksOf(file).filter(({ name }) => PICTURE_CHUNKS.has(name)));
  const flags = HAS_ANIMATION | (pictures.flat().some(hasAlpha) ? HAS_ALPHA : 0);
  const size = [...bytes(width - 1, 3), ...bytes(height - 1, 3)];
  const parts = [
    chunk("VP8X", Uint8Array.from([flags, 0, 0, 0, ...size])),
    chunk("ANIM", Uint8Array.from([0, 0, 0, 0, 0, 0])), // no colour behind it, no end of its rounds
    ...pictures.map((chunks, index) => {
      const head = [0, 0, 0, 0, 0, 0, ...size, ...bytes(frames[index].durationMs, 3), REPLACES];
      return chunk("ANMF", joined([Uint8Array.from(head), ...chunks.map(({ name, data }) => chunk(name, data))]));
    }),
  ];
  return new Blob([chunk("RIFF", joined([text("WEBP"), ...parts]))], { type: TYPE });
}

// The parts of a WebP file: [{name, data}].
function chunksOf(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const nameAt = (at) => String.fromCharCode(...file.subarray(at, at + 4));
  if (nameAt(0) !== "RIFF" || nameAt(8) !== "WEBP") throw new RangeError("not a WebP file");
  const chunks = [];
  for (let at = 12; at + 8 <= file.length; ) {
    const length = view.getUint32(at + 4, true);
    chunks.push({ name: nameAt(at), data: file.subarray(at + 8, at + 8 + length) });
    at += 8 + length + (length % 2);
  }
  return chunks;
}

const hasAlpha = ({ name, data }) => name === "ALPH" || (name === "VP8L" && Boolean(data[4] & VP8L_ALPHA));

// Chunks begin at even places.
const chunk = (name, data) => joined([text(name), Uint8Array.from(bytes(data.length, 4)), data, new Uint8Array(data.length % 2)]);

const text = (name) => Uint8Array.from(name, (letter) => letter.charCodeAt(0));

// The lowest first.
const bytes = (value, count) => Array.from({ length: count }, (_, index) => Math.floor(value / 256 ** index) % 256);

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
