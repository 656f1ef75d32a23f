// Opens connections to port ARGV[2] and never asks anything, some with the beginning of a request; whatever is ended is
// opened anew. Prints how many, each 100 ms.
import { connect } from "node:net";

const MOST = 800;
let opened = 0;
let open = 0;
const more = () => {
  for (; open < MOST; open++) {
    const socket = connect(Number(process.argv[2]), "127.0.0.1");
    const begins = open % 2 === 0;
    socket.on("connect", () => {
      opened++;
      if (begins) socket.write("GET /metrics HT");
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      open--;
      setImmediate(more);
    });
  }
};
more();
setInterval(() => console.log(`opened ${opened}`), 100);
