// What is said of runs in a few words.

import { seconds, timeLeft } from "./format.js";

// The state of several runs in a few words: {state, text} for the badge.
export function summary(runs) {
  if (!runs.length) return { state: "idle", text: "Ready" };
  if (runs.some(({ isOffline, isOver }) => isOffline && !isOver)) return { state: "bad", text: "Connection lost, trying again" };
  if (runs.some(({ isLockedOut, isOver }) => isLockedOut && !isOver)) return { state: "bad", text: "Sign in to see it" };
  if (runs.length > 1) return several(runs);
  const [{ record, progress, pace, position, notice }] = runs;
  switch (record.status) {
    case "SENDING":
      return { state: "busy", text: "Sending" };
    case "IN_QUEUE":
      if (notice) return { state: "bad", text: `Waiting: ${notice}` };
      return { state: "busy", text: position > 1 ? `In the queue, number ${position}` : "In the queue, next" };
    case "IN_PROGRESS":
      if (!progress) return { state: "busy", text: "Running" };
      return { state: "busy", text: `${doing(progress)} · ${timeLeft(pace.leftMs)}` };
    case "COMPLETED":
      return { state: "done", text: record.executionTime === undefined ? "Completed" : `Completed in ${seconds(record.executionTime)}` };
    case "CANCELLED":
      return { state: "idle", text: "Cancelled" };
    case "TIMED_OUT":
      return { state: "bad", text: "Timed out" };
    default:
      return { state: "bad", text: "Failed" };
  }
}

function several(runs) {
  const over = runs.filter(({ isOver }) => isOver);
  const good = over.filter(({ record }) => record.status === "COMPLETED");
  if (over.length < runs.length) return { state: "busy", text: `${good.length} of ${runs.length} pictures` };
  if (good.length === runs.length) return { state: "done", text: `Completed, ${runs.length} pictures` };
  return { state: "bad", text: `${good.length} of ${runs.length} completed` };
}

// After the last step the picture is decoded and its file is made.
const doing = ({ step, total }) => (step < total ? `Step ${step} of ${total}` : "Decoding");

// What stands beside a run in the list of those that are not over.
export function briefly({ record, progress, pace, position, notice }) {
  if (record.status === "SENDING") return "sending";
  if (record.status === "IN_QUEUE") return notice ? "no worker" : position > 1 ? `number ${position}` : "next";
  return progress ? `${Math.round(100 * pace.part)} %` : "running";
}
