package com.reflexio.conformance;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.IntStream;

/**
 * Carries out the conformance scenario and prints a report that must equal every other language's.
 *
 * <pre>
 *   Main scenario ADDRESS TROUBLED_ADDRESS SCENARIO   with REFLEXIO_EMAIL and REFLEXIO_PASSWORD set
 *   Main stream ADDRESS COUNT PREFIX                  how long a stream of COUNT requests takes
 * </pre>
 */
public final class Main {
  private Main() {}

  public static void main(String[] arguments) throws Exception {
    var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    var report =
        arguments[0].equals("stream")
            ? timeStream(arguments[1], Integer.parseInt(arguments[2]), arguments[3])
            : runScenario(arguments[1], arguments[2], Path.of(arguments[3]));
    out.println(report);
    System.exit(0); // idle connections would keep it alive
  }

  private static JsonObject runScenario(String address, String troubledAddress, Path path) throws Exception {
    var sections = JsonParser.parseString(Files.readString(path)).getAsJsonObject();
    return new Scenario(address, troubledAddress).run(sections);
  }

  private static JsonObject timeStream(String address, int count, String prefix) throws Exception {
    var client = new Client(address);
    client.logIn(System.getenv("REFLEXIO_EMAIL"), System.getenv("REFLEXIO_PASSWORD"));
    var started = System.nanoTime();
    var requests = IntStream.range(0, count).mapToObj(i -> Client.say("streamer", prefix + "_" + i));
    var verdict = client.stream(requests.iterator());
    var report = new JsonObject();
    report.addProperty("stored", verdict.getRequests().getStored());
    report.addProperty("seconds", (System.nanoTime() - started) / 1e9);
    return report;
  }
}
