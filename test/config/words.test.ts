import { expect, test } from "vitest";
import { executors } from "../../executors/index.ts";
import { refusal } from "./support.ts";

/** What the schemas of executors say of a value in words of their own reaches whoever wrote it. */

const entry = (executor: string, tables: string) =>
  `[[runners]]\n name = "a"\n url = "https://ci.example.com"\n token = "t"\n executor = "${executor}"\n${tables}`;
const login = '[runners.ssh]\n password = "p"';

test.each([
  [
    entry(
      "docker+machine",
      '[runners.docker]\n image = "x"\n[runners.machine]\n MachineDriver = ""\n MachineName = "a-%s"',
    ),
    '9: runners.machine.MachineDriver of "a" is empty. Name a driver of docker-machine',
  ],
  [
    entry("virtualbox", `[runners.virtualbox]\n base_name = ""\n${login}`),
    '7: runners.virtualbox.base_name of "a": expected the name of a virtual machine',
  ],
  [
    entry("virtualbox", `[runners.virtualbox]\n base_name = "b"\n start_type = "headles"\n${login}`),
    '8: runners.virtualbox.start_type of "a": expected one of "headless", "gui", "separate", found the text "headles". Did you mean "headless"?',
  ],
  [
    entry("kubernetes", '[runners.kubernetes]\n[[runners.kubernetes.volumes.pvc]]\n name = ""\n mount_path = "/x"'),
    '8: runners.kubernetes.volumes.pvc[0].name of "a" is empty. Give the volume a name',
  ],
])("%s", async (text, expected) => {
  expect(await refusal(text, { catalog: executors })).toContain(expected);
});
