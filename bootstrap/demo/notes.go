package demo

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// book holds notes by title, in memory.
type book struct {
	server *mcp.Server

	mu    sync.Mutex
	notes map[string]string
}

type note struct {
	Title string `json:"title" jsonschema:"the note's title"`
	Text  string `json:"text" jsonschema:"the note's text"`
}

type title struct {
	Title string `json:"title" jsonschema:"the note's title"`
}

type titles struct {
	Titles []string `json:"titles" jsonschema:"the titles of all notes, sorted"`
}

// Notes is a server with tools to write notes and to list and delete them,
// with each note as a resource, and with a prompt that asks for a summary.
func Notes() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1.0.0"}, nil)
	b := &book{server: server, notes: map[string]string{}}
	mcp.AddTool(server, &mcp.Tool{
		Name: "write_note", Description: "Writes a note, over an older one of the same title",
	}, b.write)
	mcp.AddTool(server, &mcp.Tool{
		Name: "list_notes", Description: "Lists the titles of all notes",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true},
	}, b.list)
	mcp.AddTool(server, &mcp.Tool{
		Name: "delete_note", Description: "Deletes a note",
	}, b.remove)
	server.AddPrompt(&mcp.Prompt{
		Name: "summarize", Description: "Asks for a summary of all notes",
	}, b.summarize)
	b.put("welcome", "These notes live as long as the server runs.")
	return server
}

func (b *book) put(name, content string) {
	b.mu.Lock()
	_, known := b.notes[name]
	b.notes[name] = content
	b.mu.Unlock()
	if !known {
		b.server.AddResource(&mcp.Resource{URI: noteURI(name), Name: name, MIMEType: "text/plain"}, b.read(name))
	}
}

func (b *book) write(_ context.Context, _ *mcp.CallToolRequest, in note) (*mcp.CallToolResult, any, error) {
	if in.Title == "" {
		return nil, nil, fmt.Errorf("a note needs a title")
	}
	b.put(in.Title, in.Text)
	return text("Wrote %q.", in.Title), nil, nil
}

func (b *book) list(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, titles, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sorted := make([]string, 0, len(b.notes))
	for name := range b.notes {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	return text("%s", strings.Join(sorted, "\n")), titles{sorted}, nil
}

func (b *book) remove(_ context.Context, _ *mcp.CallToolRequest, in title) (*mcp.CallToolResult, any, error) {
	b.mu.Lock()
	_, known := b.notes[in.Title]
	delete(b.notes, in.Title)
	b.mu.Unlock()
	if !known {
		return nil, nil, fmt.Errorf("no note is called %q", in.Title)
	}
	b.server.RemoveResources(noteURI(in.Title))
	return text("Deleted %q.", in.Title), nil, nil
}

func (b *book) read(name string) mcp.ResourceHandler {
	return func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		b.mu.Lock()
		content, known := b.notes[name]
		b.mu.Unlock()
		if !known {
			return nil, mcp.ResourceNotFoundError(r.Params.URI)
		}
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{
			{URI: r.Params.URI, MIMEType: "text/plain", Text: content},
		}}, nil
	}
}

func (b *book) summarize(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all strings.Builder
	all.WriteString("Summarize these notes:\n")
	for name, content := range b.notes {
		fmt.Fprintf(&all, "\n# %s\n%s\n", name, content)
	}
	return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{
		{Role: "user", Content: &mcp.TextContent{Text: all.String()}},
	}}, nil
}

func noteURI(name string) string { return "note:///" + url.PathEscape(name) }
