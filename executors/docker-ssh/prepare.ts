import { SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Notes } from "../../src/executor/prepare.ts";
import { type PrepareJobOptions, startOwnCommand } from "../docker/own-command.ts";
import { connectSsh, jobOverSsh, type OverSshOptions, type SshTable, sshSettings } from "../ssh/over-ssh.ts";
import { containerAddress } from "./address.ts";
import { failAsEnded, logInToContainer, mustRun } from "./login.ts";

/**
 * A container of the job's image, whose own command starts sshd; services and network as for `docker`; scripts and files over
 * SSH. Whatever was made when this rejects carries the job's key: `destroy` finds it.
 */
export async function prepareSshJob(
  table: SshTable,
  options: PrepareJobOptions,
  notes: Notes,
  signal: AbortSignal,
): Promise<Environment> {
  const { engine, deps, request } = options;
  const { log } = deps;
  mustBeReachable(options, table);
  const { container, variables, waitForServices, stopLogs, formerCache } = await startOwnCommand(
    options,
    notes,
    signal,
  );
  const started = { container, notes };
  const address = await containerAddress(container, signal).catch(async (error: unknown) => {
    // A container that has ended has no address any more: its end is the failure to report then.
    await mustRun(started, signal);
    throw error;
  });
  const around = { workingDirectory: deps.host.working, environment: deps.host.env };
  const login = await logInToContainer(started, sshSettings(table, around, { host: address }), { log }, signal);
  const host = `container ${container.id.slice(0, 12)} on ${engine.hostName}`;
  const over: OverSshOptions = {
    notes,
    deps,
    request,
    ephemeral: false,
    host,
    location: engine.location,
    inContainer: true,
    without: (shell) => `The image ${container.image} has no ${shell}. Use another image`,
    connection: login.connection,
    connect: async (until) =>
      await connectSsh(login.settings, { log }, until).catch((error: unknown) => failAsEnded(started, error, until)),
    ready: ({ commands }) => waitForServices(commands, signal),
    cleanUp: async () => {},
  };
  const { environment, close } = await jobOverSsh(over, signal);
  return {
    ...environment,
    host,
    projectSlot: options.slot,
    variables,
    ...(formerCache === null ? {} : { formerCache }),
    scriptsOver: stopLogs,
    // All of it goes with the container.
    destroy: async (until) => {
      close();
      await stopLogs();
      await options.destroy(until);
    },
  };
}

/**
 * Refuses, before anything is made, settings by which SSH would reach another machine than the container, above all the
 * runner's own.
 * @throws {SystemFailure} says which setting is in the way
 */
function mustBeReachable({ engine, settings }: PrepareJobOptions, table: SshTable): void {
  const mode = settings.networkMode ?? "";
  if (/^(?:host|none)$|^container:/.test(mode)) {
    throw new SystemFailure(
      `docker-ssh needs a container with an address of its own: remove network_mode = "${mode}" from [runners.docker]`,
      { reason: "runner_configuration_error" },
    );
  }
  // An address on the bridge of another machine can belong to another container, or to anybody, on this one.
  if (!engine.local && table.jump === undefined) {
    throw new SystemFailure(
      `docker-ssh reaches containers of an engine on this machine only, and ${engine.address} is another. Use executor "docker", or name a way there in [runners.ssh.jump]`,
      { reason: "runner_configuration_error" },
    );
  }
}
