package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/review"
	"vault-plugin-secrets-mcp/gateway/commandline"
)

// The bounds of -days.
const (
	defaultDays = 30
	maxDays     = 366
)

// reviewFlags are what a review is asked for.
type reviewFlags struct {
	mount, format, out, against string
	days                        int
}

func setupReview(flags *commandline.Flags) commandline.Run {
	var in reviewFlags
	mount(flags, &in.mount)
	flags.OneOf(&in.format, "format", "text", review.Formats(), "the `format`")
	flags.StringVar(&in.out, "out", "", "the `file` to write, instead of standard output")
	flags.StringVar(&in.against, "against", "", "an earlier review, a `file` of -format=json: show the changes since")
	flags.IntVar(&in.days, "days", defaultDays, "in how many whole `days` before today a right must have been used")
	flags.Files("out", "against")
	flags.Check(func([]string) []string {
		if in.days >= 1 && in.days <= maxDays {
			return nil
		}
		return []string{fmt.Sprintf("-days %d is not between 1 and %d", in.days, maxDays)}
	})
	return in.run
}

func (in *reviewFlags) run(ctx context.Context, _ []string, out commandline.Streams) error {
	earlier, err := in.earlier()
	if err != nil {
		return err
	}
	vault, err := connect.FromEnvironment(os.Stderr)
	if err != nil {
		return err
	}
	if err := connect.Check(ctx, vault); err != nil {
		return err
	}
	snapshot, err := review.Read(ctx, vault, in.mount)
	if err != nil {
		return err
	}
	made := review.New(snapshot, in.days)
	if earlier != nil {
		if err := made.Compare(earlier); err != nil {
			return fmt.Errorf("%s %w", in.against, err)
		}
	}
	return in.write(out.Stdout, made)
}

// earlier reads the review to compare with; nil where there is none.
func (in *reviewFlags) earlier() (*review.Review, error) {
	if in.against == "" {
		return nil, nil
	}
	file, err := os.Open(in.against)
	if err != nil {
		return nil, fmt.Errorf("cannot read the earlier review: %w", err)
	}
	defer file.Close()
	earlier, err := review.Parse(file)
	if err != nil {
		return nil, fmt.Errorf("%s %w", in.against, err)
	}
	return earlier, nil
}

// write writes the review to the file, whole or not at all, or to standard output.
func (in *reviewFlags) write(stdout io.Writer, made *review.Review) error {
	if in.out == "" {
		return review.Write(stdout, in.format, made)
	}
	file, err := os.CreateTemp(filepath.Dir(in.out), ".review-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", in.out, err)
	}
	err = errors.Join(review.Write(file, in.format, made), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), in.out)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", in.out, err), os.Remove(file.Name()))
	}
	return nil
}
