// Started by a test: takes one job and is killed in the middle of it.
import { openHandling } from "./handling.ts";

const [url = "", token = "", dir = ""] = process.argv.slice(2);
const handling = await openHandling({ url, token, dir });
await handling.handle(await handling.receive());
