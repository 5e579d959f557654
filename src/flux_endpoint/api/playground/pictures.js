// A job that drew several pictures, as a record for each: they are looked at, kept and drawn again one by one.

// The records of the pictures of a job, the job's own for the first; one record when there is one picture, or none.
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
