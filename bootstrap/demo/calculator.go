package demo

import (
	"context"
	"errors"
	"strconv"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type operands struct {
	A float64 `json:"a" jsonschema:"the first operand"`
	B float64 `json:"b" jsonschema:"the second operand"`
}

type quantity struct {
	Result float64 `json:"result" jsonschema:"what the operation yields"`
}

var errDivisionByZero = errors.New("division by zero")

// Calculator is a server with one tool for each of the four operations.
func Calculator() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "calculator", Version: "1.0.0"}, nil)
	operation(server, "add", "Adds two numbers", func(o operands) (float64, error) { return o.A + o.B, nil })
	operation(server, "subtract", "Subtracts the second number from the first",
		func(o operands) (float64, error) { return o.A - o.B, nil })
	operation(server, "multiply", "Multiplies two numbers", func(o operands) (float64, error) { return o.A * o.B, nil })
	operation(server, "divide", "Divides the first number by the second", func(o operands) (float64, error) {
		if o.B == 0 {
			return 0, errDivisionByZero
		}
		return o.A / o.B, nil
	})
	return server
}

func operation(server *mcp.Server, name, description string, compute func(operands) (float64, error)) {
	mcp.AddTool(server, &mcp.Tool{
		Name:        name,
		Description: description,
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true},
	}, func(_ context.Context, _ *mcp.CallToolRequest, in operands) (*mcp.CallToolResult, quantity, error) {
		result, err := compute(in)
		if err != nil {
			return nil, quantity{}, err
		}
		return text("%s", strconv.FormatFloat(result, 'g', -1, 64)), quantity{result}, nil
	})
}
