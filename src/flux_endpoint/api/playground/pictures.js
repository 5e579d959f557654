// The pictures of a job: those that it is drawn from, and those that it drew.

// Fields of an input that hold pictures: megabytes, perhaps, which are kept in no record, address or program.
export const PICTURES = ["image", "mask", "control_image", "image_prompt"];

// The input without them, and them: [rest, pictures].
export function apart(input) {
  const parts = [{}, {}];
  for (const [name, value] of Object.entries(input)) parts[Number(PICTURES.includes(name))][name] = value;
  return parts;
}

// The records of the pictures that a job drew, the job's own for the first; one record when there is one picture, or none.
// They are looked at, kept and drawn again one by one.
export function eachPicture(record) {
  const { images, seeds, cost } = record.output ?? {};
  if (record.status !== "COMPLETED" || record.picture || !Array.isArray(images) || images.length < 2) return [record];
  const { num_images: _, ...input } = record.input;
  return images.map((url, index) => ({
    ...record,
    id: index ? `${record.id}.${index + 1}` : record.id,
    job: record.id,
    picture: index + 1, // of the job's, as /finish counts them
    set: record.set ?? record.id,
    createdMs: record.createdMs + index,
    input: { ...input, seed: seeds?.[index] },
    output: { ...record.output, image_url: url, seed: seeds?.[index], cost: cost / images.length },
  }));
}
