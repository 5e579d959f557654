// What was painted, stroke by stroke, so that each can be taken back. Places and widths are pixels of the picture.

// Seen on dark and bright, and rare in pictures.
const COLOUR = "#e6218f";

export class Strokes {
  #strokes;

  constructor(strokes = []) {
    this.#strokes = strokes;
  }

  // One that can be changed while this stays what it is.
  copy() {
    return new Strokes([...this.#strokes]);
  }

  get count() {
    return this.#strokes.length;
  }

  // Begins with a dot.
  begin(width, isErasing, point) {
    this.#strokes.push({ width, isErasing, points: [point] });
  }

  extend(point) {
    this.#strokes.at(-1).points.push(point);
  }

  // Can be taken back like a stroke.
  clear() {
    this.#strokes.push({ isClearing: true, points: [] });
  }

  undo() {
    this.#strokes.pop();
  }

  // Paints all of it on nothing.
  draw(context) {
    const { width, height } = context.canvas;
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, width, height);
    for (const stroke of this.#strokes) {
      if (stroke.isClearing) context.clearRect(0, 0, width, height);
      else paint(context, stroke, stroke.points);
    }
  }

  // Paints only what `extend` has added last.
  drawEnd(context) {
    const stroke = this.#strokes.at(-1);
    paint(context, stroke, stroke.points.slice(-2));
  }
}

function paint(context, { width, isErasing }, points) {
  context.globalCompositeOperation = isErasing ? "destination-out" : "source-over";
  context.strokeStyle = context.fillStyle = COLOUR;
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  if (points.length > 1) {
    context.moveTo(...points[0]);
    for (const point of points.slice(1)) context.lineTo(...point);
    context.stroke();
  } else {
    // A line without a length is not drawn.
    context.arc(...points[0], width / 2, 0, 2 * Math.PI);
    context.fill();
  }
}

// How much of a canvas is painted, from 0 to 1.
export function shareOf(canvas) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0;
  for (let at = 3; at < data.length; at += 4) sum += data[at];
  return sum / 255 / (canvas.width * canvas.height);
}

// White where it is painted, black elsewhere, as a data: URI of a PNG.
export function maskOf(canvas) {
  const whole = document.createElement("canvas");
  [whole.width, whole.height] = [canvas.width, canvas.height];
  const context = whole.getContext("2d");
  context.drawImage(canvas, 0, 0);
  const fill = (where, colour) => {
    context.globalCompositeOperation = where;
    context.fillStyle = colour;
    context.fillRect(0, 0, whole.width, whole.height);
  };
  fill("source-in", "#fff");
  fill("destination-over", "#000");
  return whole.toDataURL();
}
