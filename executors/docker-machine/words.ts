import type { EntryQuestion, ExecutorWords } from "../../src/executor/words.ts";
import { words as docker, imageQuestion } from "../docker/words.ts";
import { machineFlags } from "./settings/flags.ts";

const machineQuestions: readonly EntryQuestion[] = [
  { flag: "machine-machine-driver", message: "Driver of docker-machine, such as amazonec2", required: true },
  { flag: "machine-machine-name", message: "Name of machines, such as auto-scale-%s", required: true },
];

export const words: ExecutorWords = {
  name: "docker+machine",
  title: "Docker Machine",
  builtOn: [docker.name],
  worksOnThisMachine: false,
  flags: machineFlags,
  questions: [imageQuestion, ...machineQuestions],
  foreignKeys: {
    machine: `idlecount idletime maxbuilds machinedriver machinename machineoptions machineoptionswithname
      offpeakperiods offpeaktimezone offpeakidlecount offpeakidletime autoscaling idlescalefactor idlecountmin
      maxgrowthrate maxremovalattempts shutdown_drain`,
  },
};
