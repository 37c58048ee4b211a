package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Options are the settings of [Read] and [Parse]; nil means the defaults.
type Options struct {
	// Literals allows secrets that stand in the file itself.
	Literals bool

	// WithoutSecrets reads no variable and no file that secrets are named by.
	WithoutSecrets bool

	// Env looks up a variable that !env names. Defaults to os.LookupEnv.
	Env func(name string) (string, bool)

	// Stdin is what the file "-" is. Defaults to os.Stdin.
	Stdin io.Reader
}

const (
	// Version is the version of the form of files that this package reads.
	Version = 1

	maxBytes  = 64 << 20 // of all files together
	maxMarks  = 4 << 20  // marks of YAML in all files together, which bound the memory that parsing takes
	maxSecret = 64 << 10 // bytes of a file that holds a secret
)

// A Source is the text of a file.
type Source struct {
	Name string // for messages, and the place that !file PATH starts from
	Text []byte
}

// Read reads files, and all .yaml, .yml and .json files of directories. The error is
// [Problems] when something is wrong with what they say.
func Read(paths []string, opts *Options) (*Set, error) {
	files, err := expand(paths)
	if err != nil {
		return nil, err
	}
	left := int64(maxBytes)
	sources := make([]Source, len(files))
	for i, name := range files {
		text, err := readAtMost(name, left, opts)
		if err != nil {
			return nil, err
		}
		left -= int64(len(text))
		sources[i] = Source{name, text}
	}
	return Parse(sources, opts)
}

// expand replaces directories by the files in them.
func expand(paths []string) (files []string, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case path == "-":
			files = append(files, path)
		case err != nil:
			return nil, plainPathError(path, err)
		case !info.IsDir():
			files = append(files, path)
		default:
			entries, err := os.ReadDir(path)
			if err != nil {
				return nil, plainPathError(path, err)
			}
			before := len(files)
			for _, e := range entries {
				if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) && !e.IsDir() {
					files = append(files, filepath.Join(path, e.Name()))
				}
			}
			if len(files) == before {
				return nil, Problem{File: path, Message: "has no .yaml, .yml or .json file"}
			}
		}
	}
	return files, nil
}

func readAtMost(name string, most int64, opts *Options) ([]byte, error) {
	var r io.Reader = os.Stdin
	if opts != nil && opts.Stdin != nil {
		r = opts.Stdin
	}
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, plainPathError(name, err)
		}
		defer f.Close()
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, plainPathError(name, err)
	}
	if int64(len(text)) > most {
		return nil, Problem{File: name, Message: fmt.Sprintf("is too large: all files together may have %d MiB",
			maxBytes>>20)}
	}
	return text, nil
}

// plainPathError says why a file cannot be read, without the system call.
func plainPathError(name string, err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Parse reads the texts of files that belong together.
func Parse(sources []Source, opts *Options) (*Set, error) {
	p := newParser(opts)
	for _, s := range sources {
		p.file(s)
	}
	if err := p.problems.err(); err != nil {
		return nil, err
	}
	return p.set, nil
}

// parser reads files one after the other into a set.
type parser struct {
	nouns    []noun
	set      *Set
	literals bool
	unread   bool // secrets are not read
	env      func(string) (string, bool)
	problems Problems
	marks    int
	names    map[string]Item // by what tells items apart
}

func (p *parser) file(s Source) {
	root := p.root(s)
	if root == nil {
		return
	}
	t := p.tree(s.Name)
	members, names := map[string]*yaml.Node{}, append(kindNames(), "version", "owner", "store", "defaults")
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		switch _, twice := members[key.Value]; {
		case strings.HasPrefix(key.Value, "x-"):
		case !slices.Contains(names, key.Value):
			t.problem(key, memberPath("", key.Value), "means nothing here"+nearest(key.Value, names))
		case twice:
			t.problem(key, key.Value, "occurs twice; write it once")
		default:
			members[key.Value] = value
		}
	}
	p.header(t, root, members)
	defaults := p.defaults(t, members["defaults"])
	for _, n := range p.nouns {
		if list, ok := members[string(n.kind)]; ok {
			p.list(t, &n, list, defaults[n.kind])
		}
	}
}

// root parses a file and returns its one object, or nil.
func (p *parser) root(s Source) *yaml.Node {
	fail := func(line int, message string) *yaml.Node {
		p.problems.add(Problem{s.Name, line, "", message})
		return nil
	}
	if !utf8.Valid(s.Text) {
		return fail(0, "must be UTF-8")
	}
	if p.marks += countMarks(s.Text); p.marks > maxMarks {
		return fail(0, "has too many values, together with the other files")
	}
	var docs []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(s.Text))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line, message := syntaxProblem(err)
			return fail(line, message)
		}
		if docs = append(docs, &doc); len(docs) > 1 {
			return fail(doc.Line, "must be one document; put the second one into a file of its own")
		}
	}
	if len(docs) == 0 || len(docs[0].Content) == 0 {
		return fail(0, "is empty; it must begin with version: 1")
	}
	root := docs[0].Content[0]
	if root.Kind != yaml.MappingNode {
		return fail(root.Line, "must be an object that begins with version: 1")
	}
	return root
}

// countMarks returns how many nodes a text can have at most, about.
func countMarks(text []byte) (n int) {
	for i, c := range text {
		switch c {
		case ',', '[', '{', '\n', '&', '*':
			n++
		case ':', '-', '?':
			if i+1 == len(text) || text[i+1] <= ' ' || text[i+1] == '"' || i > 0 && text[i-1] == '"' {
				n++
			}
		}
	}
	return n
}

var lineForm = regexp.MustCompile(`line (\d+)`)

// syntaxProblem says where the parser stopped. Its own words may quote the text.
func syntaxProblem(err error) (line int, message string) {
	if m := lineForm.FindStringSubmatch(err.Error()); m != nil {
		_, _ = fmt.Sscan(m[1], &line)
	}
	for words, remedy := range map[string]string{
		"unknown anchor":                 "names an anchor (*name) that does not stand before it (&name)",
		"contains itself":                "has an anchor that contains itself",
		"could not find expected ':'":    "is not valid YAML: a colon is missing after a name, or a quote is not closed",
		"mapping values are not allowed": "is not valid YAML: a colon within a value; put the value in quotes",
		"did not find expected key": "is not valid YAML: the line does not fit what stands before it; check " +
			"how far it is indented",
		"cannot start any token":              "is not valid YAML: a tab, or a character that needs quotes",
		"did not find expected '-' indicator": "is not valid YAML: an element of a list must begin with - in the same column",
	} {
		if strings.Contains(err.Error(), words) {
			return line, remedy
		}
	}
	return line, "is not valid YAML"
}

// DecodeYAML reads a text of another program into a value. The error says the line and never
// quotes the text.
func DecodeYAML(text []byte, into any) error {
	err := yaml.Unmarshal(text, into)
	if err == nil {
		return nil
	}
	line, message := syntaxProblem(err)
	if _, ok := errors.AsType[*yaml.LoadErrors](err); ok {
		message = "has a value of another type than stands there in such a file"
	}
	if line == 0 {
		return errors.New("it " + message)
	}
	return fmt.Errorf("line %d %s", line, message)
}

// IsVariable reports whether a name can be that of a variable that !env names.
func IsVariable(name string) bool { return envForm.MatchString(name) }

// header reads what a file says of itself.
func (p *parser) header(t *tree, root *yaml.Node, members map[string]*yaml.Node) {
	version, ok := members["version"]
	switch {
	case !ok:
		t.problem(root, "version", "is required; write version: 1 at the top")
	case t.value(version, "version", 1, false) != any(numberOne):
		t.problem(version, "version", "must be 1: this program reads no other form")
	}
	for _, of := range []struct {
		name string
		into *string
	}{{"owner", &p.set.Owner}, {"store", &p.set.Store}} {
		node, ok := members[of.name]
		if !ok {
			continue
		}
		text, isText := t.value(node, of.name, 1, false).(string)
		switch {
		case !isText || strings.TrimSpace(text) == "":
			t.problem(node, of.name, "must be a word; leave it out if there is none")
		case *of.into != "" && *of.into != text:
			t.problem(node, of.name, "must be the same in all files that are read together")
		default:
			*of.into = text
		}
	}
}

// secret reads what !env or !file names.
func (p *parser) secret(file, source, name string) (string, error) {
	if p.unread {
		return "unread", nil
	}
	if source == tagEnv {
		if !envForm.MatchString(name) {
			return "", errors.New("must name a variable of letters, digits and _, such as !env OPENAI_API_KEY")
		}
		switch text, ok := p.env(name); {
		case !ok:
			return "", fmt.Errorf("needs the variable %s, which is not set", name)
		case strings.TrimSpace(text) == "":
			return "", fmt.Errorf("needs the variable %s, which is empty", name)
		default:
			return strings.TrimRight(text, "\r\n"), nil
		}
	}
	path := name
	if !filepath.IsAbs(path) && file != "-" {
		path = filepath.Join(filepath.Dir(file), path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", errors.New("names a file that cannot be opened; a path starts from the directory of this file")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return "", errors.New("names a file that cannot be read")
	case len(text) > maxSecret:
		return "", fmt.Errorf("names a file of more than %d KiB", maxSecret>>10)
	case !utf8.Valid(text):
		return "", errors.New("names a file that is no text in UTF-8")
	case len(bytes.TrimSpace(text)) == 0:
		return "", errors.New("names a file that is empty")
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

var envForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
