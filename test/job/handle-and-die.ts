// Started by a test: takes one job and is killed in the middle of it.
import { openHandling } from "./handling.ts";

const [url = "", token = "", dir = "", key] = process.argv.slice(2);
const durable = key === undefined ? {} : { entry: "durable = true", liveKey: Buffer.from(key, "hex") };
const handling = await openHandling({ url, token, dir, ...durable });
await handling.handle(await handling.receive());
