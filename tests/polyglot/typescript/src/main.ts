// Carries out the conformance scenario and prints a report that must equal every other language's.
//
//   main.js scenario ADDRESS TROUBLED_ADDRESS SCENARIO   with REFLEXIO_EMAIL and REFLEXIO_PASSWORD set
//   main.js stream ADDRESS COUNT PREFIX                  how long a stream of COUNT requests takes
import { readFile } from "node:fs/promises";

import { Client, say } from "./client.js";
import { Scenario } from "./scenario.js";

async function timeStream(address: string, count: number, prefix: string) {
  const client = new Client(address);
  await client.logIn(process.env["REFLEXIO_EMAIL"]!, process.env["REFLEXIO_PASSWORD"]!);
  function* requests() {
    for (let i = 0; i < count; i++) {
      yield say("streamer", `${prefix}_${i}`);
    }
  }
  const started = performance.now();
  const { requests: counts } = await client.stream(requests());
  return { stored: counts?.stored, seconds: (performance.now() - started) / 1000 };
}

const [command, address, second, third] = process.argv.slice(2) as [string, string, string, string];
if (command === "stream") {
  console.log(JSON.stringify(await timeStream(address, Number(second), third)));
} else {
  const sections = JSON.parse(await readFile(third, "utf8"));
  console.log(JSON.stringify(await new Scenario(address, second).run(sections)));
}
process.exit(); // open connections would keep it alive
