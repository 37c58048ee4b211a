// Command pricetable makes the table of package catalog/listprices from LiteLLM's
// model_prices_and_context_window.json:
//
//	go run ./cmd/internal/pricetable -date 2026-08 -o catalog/listprices/table.tsv FILE
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog/listprices"
	"github.com/ez-api/ez-api/catalog/pricefile"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "pricetable:", err)
		os.Exit(1)
	}
}

func run() error {
	date := flag.String("date", "", "month of the price list: 2026-08")
	out := flag.String("o", "catalog/listprices/table.tsv", "file to write")
	flag.Parse()
	if _, err := time.Parse("2006-01", *date); err != nil || flag.NArg() != 1 {
		return fmt.Errorf("needs -date YYYY-MM, and the name of the price list")
	}
	text, err := os.ReadFile(flag.Arg(0))
	if err != nil {
		return err
	}
	list, err := pricefile.Parse(text)
	if err != nil {
		return err
	}
	if list.Source != pricefile.LiteLLM {
		return fmt.Errorf("needs the price list of LiteLLM")
	}
	table, n := makeTable(list, *date)
	fmt.Fprintf(os.Stderr, "pricetable: %d models, %d bytes\n", n, len(table))
	return os.WriteFile(*out, table, 0o644) //nolint:gosec // it is public
}

// makeTable writes the lines of the large vendors.
func makeTable(list *pricefile.List, date string) (table []byte, n int) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# source: LiteLLM, model_prices_and_context_window.json\n# date: %s\n", date)
	fmt.Fprintf(&b, "# licence: MIT, Copyright (c) 2023 Berri AI; see LICENSE-litellm\n")
	var lines []string
	seen := map[string]bool{}
	for _, r := range list.Records {
		vendor := vendorOf(r.Provider)
		key := vendor + "\t" + r.Model
		if vendor == "" || seen[key] || r.Free() || strings.ContainsAny(r.Model, "\t\r\n") {
			continue
		}
		seen[key] = true
		lines = append(lines, listprices.Line(vendor, r.Model, r.Prices))
	}
	slices.Sort(lines)
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	return b.Bytes(), len(lines)
}

// vendorOf returns the vendor that a provider of LiteLLM belongs to; "" for one that the table
// has not.
func vendorOf(provider string) string {
	family, _, _ := strings.Cut(provider, "-")
	for _, name := range []string{provider, family, strings.TrimSuffix(provider, "_converse"),
		strings.TrimSuffix(provider, "_chat")} {
		if slices.Contains(listprices.Vendors(), name) {
			return name
		}
	}
	return ""
}
