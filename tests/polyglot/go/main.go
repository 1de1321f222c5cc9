// Command conformance carries out the conformance scenario and prints a report
// that must equal every other language's.
//
//	conformance scenario ADDRESS TROUBLED_ADDRESS SCENARIO   with REFLEXIO_EMAIL and REFLEXIO_PASSWORD set
//	conformance stream ADDRESS COUNT PREFIX                  how long a stream of COUNT requests takes
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	pb "github.com/reflexio/reflexio/gen/go/reflexio/v1"
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var report any
	var err error
	switch {
	case len(os.Args) == 5 && os.Args[1] == "scenario":
		report, err = runScenario(ctx, os.Args[2], os.Args[3], os.Args[4])
	case len(os.Args) == 5 && os.Args[1] == "stream":
		report, err = timeStream(ctx, os.Args[2], os.Args[3], os.Args[4])
	default:
		log.Fatal("usage: conformance scenario ADDRESS TROUBLED_ADDRESS SCENARIO | stream ADDRESS COUNT PREFIX")
	}
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		log.Fatal(err)
	}
}

func timeStream(ctx context.Context, address, count, prefix string) (any, error) {
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, err
	}
	c, err := dial(address)
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	if _, err := c.logIn(ctx, os.Getenv("REFLEXIO_EMAIL"), os.Getenv("REFLEXIO_PASSWORD")); err != nil {
		return nil, err
	}
	started := time.Now()
	verdict, err := c.stream(ctx, func(yield func(*pb.PublishInteractionsRequest) bool) {
		for i := range n {
			if !yield(say("streamer", fmt.Sprintf("%s_%d", prefix, i))) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"stored":  verdict.GetRequests().GetStored(),
		"seconds": time.Since(started).Seconds(),
	}, nil
}
