/** Types of the modules that `http-client.ts` takes from undici, which describes only the package as a whole. */

declare module "undici/lib/dispatcher/client.js" {
  import type { Client as Whole } from "undici";

  /** Without the methods that the package's index adds: nobody loads it here. */
  type Client = Omit<Whole, "request" | "stream" | "pipeline" | "upgrade" | "connect">;
  const Client: new (...settings: ConstructorParameters<typeof Whole>) => Client;
  export default Client;
}

declare module "undici/lib/api/api-connect.js" {
  import type { Dispatcher } from "undici";
  import type Client from "undici/lib/dispatcher/client.js";

  export default function connect(
    this: Client,
    options: Pick<Dispatcher.ConnectOptions, "path" | "headers" | "signal">,
  ): Promise<Dispatcher.ConnectData>;
}
