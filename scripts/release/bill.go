package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/rs/zerolog"
)

// whole refers to the release, among its components.
const whole = "release"

// bill writes the software bill of materials of a platform's programs: the modules that Go noted in
// each, as CycloneDX.
func (r *release) bill(p platform) (err error) {
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp: r.date.Format(time.RFC3339),
		Component: &cdx.Component{
			BOMRef: whole, Type: cdx.ComponentTypeApplication, Name: plugin, Version: r.version,
			Properties: &[]cdx.Property{{Name: "commit", Value: r.commit}, {Name: "platform", Value: p.String()}},
		},
	}
	of := map[string]*[]string{whole: {}} // what each component depends on
	components := map[string]cdx.Component{}
	for _, source := range sources {
		if err := addProgram(components, of, filepath.Join(p.programs, source.program), r.version); err != nil {
			return err
		}
	}
	list, dependencies := make([]cdx.Component, 0, len(components)), make([]cdx.Dependency, 0, len(of))
	for _, component := range components {
		list = append(list, component)
	}
	for ref, on := range of {
		slices.Sort(*on)
		on := slices.Compact(*on)
		dependencies = append(dependencies, cdx.Dependency{Ref: ref, Dependencies: &on})
	}
	slices.SortFunc(list, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	slices.SortFunc(dependencies, func(a, b cdx.Dependency) int { return strings.Compare(a.Ref, b.Ref) })
	bom.Components, bom.Dependencies = &list, &dependencies

	f, err := os.Create(r.file(plugin, p.os+"_"+p.arch+".cdx.json"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).Encode(bom)
}

// addProgram adds a program and its modules.
func addProgram(components map[string]cdx.Component, of map[string]*[]string, path, version string) error {
	generator, err := bin.NewGenerator(path, bin.WithVersionOverride(version), bin.WithIncludeStdlib(true), bin.WithShortPURLS(true), bin.WithLogger(zerolog.Nop()))
	if err != nil {
		return err
	}
	bom, err := generator.Generate()
	if err != nil {
		return err
	}
	sum, err := digest(path)
	if err != nil {
		return err
	}
	program := filepath.Base(path)
	components[program] = cdx.Component{
		BOMRef: program, Type: cdx.ComponentTypeFile, Name: program, Version: version,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}},
	}
	modules := []string{}
	for _, module := range *bom.Components {
		components[module.BOMRef] = module
		modules = append(modules, module.BOMRef)
	}
	of[program] = &modules
	*of[whole] = append(*of[whole], program)
	return nil
}
