// Server-sent events from a fetch, because the browser's EventSource cannot send an Authorization header.

// The server says something every ten seconds: silence is a connection that nobody has ended.
const SILENCE_MS = 30_000;

// Yields {event, data} for each message of a response body. Throws Error when nothing comes.
export async function* readEvents(body, silenceMs = SILENCE_MS) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await within(silenceMs, reader.read());
      if (done) return;
      buffer += value;
      // A CR at the very end may be the first half of a CRLF.
      const isCut = buffer.endsWith("\r");
      const text = (isCut ? buffer.slice(0, -1) : buffer).replace(/\r\n?/g, "\n");
      const messages = text.split("\n\n");
      buffer = messages.pop() + (isCut ? "\r" : "");
      for (const message of messages) {
        const parsed = parse(message);
        if (parsed) yield parsed;
      }
    }
  } finally {
    // The reader of the stream may leave early: then the connection must not stay open.
    reader.cancel().catch(() => {});
  }
}

function within(ms, promise) {
  let timer;
  const silence = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("the server is silent")), ms)));
  return Promise.race([promise, silence]).finally(() => clearTimeout(timer));
}

function parse(message) {
  let event = "message";
  const data = [];
  for (const line of message.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "event") event = value;
    else if (name === "data") data.push(value);
  }
  return data.length ? { event, data: data.join("\n") } : null;
}
