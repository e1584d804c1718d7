// Checks one of our logs with someone else's implementation: Go's checksum database (golang.org/x/mod/sumdb, `note` and
// `tlog`), which the C2SP formats come from.
//
// Given what crates/ledger/examples/write_log.rs wrote, the log's key and its witnesses' keys, it demands of the log: the
// log and every witness signed the checkpoint and nobody else did; the root follows from all entries; every stored hash
// stands in the tiles; every entry is included and every two sizes are consistent, by proofs read from the tiles; every
// body is named by its SHA-256; no file is missing or left over; and it extends the older checkpoint. Then it changes the
// log in one place after the other, and demands to be refused. Of the fork, which the log's key signed too, it demands
// that it is a whole log in itself, that its checkpoint is refused for want of cosignatures, and that it does not extend
// the older checkpoint. Each proof file is read and verified as C2SP tlog-proof says, and refused when it is changed.
//
// What Go's package lacks is here: cosignature/v1 (type 0x04), C2SP's tile paths, which omit the tile height, and
// tlog-proof. What it cannot do: this version of Go has no ML-DSA, so that of an ML-DSA-44 cosignature (type 0x06) only
// name and key id are looked at; tests/interop/cosignature.py verifies those.
//
// Usage: GO111MODULE=off GOPATH=/usr/share/gocode go run verify.go DIRECTORY LOG_KEY [WITNESS_KEY...]
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight     = 8       // C2SP tlog-tiles: 256 hashes
	pairsCheckedBy = 200     // up to this size, every two sizes are compared; beyond, those around tile boundaries
	largestLog     = 1 << 16 // this is a test: a larger one is a mistake
)

// directory maps paths relative to the log's directory to contents.
type directory map[string][]byte

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: verify.go DIRECTORY LOG_KEY [WITNESS_KEY...]")
		os.Exit(2)
	}
	files, err := read(os.Args[1])
	if err != nil {
		fmt.Println("go-sumdb: FAILED reading the log:", err)
		os.Exit(1)
	}
	logKey, witnessKeys := os.Args[2], os.Args[3:]
	passed, failed := 0, 0
	count := func(label string, good bool) {
		if good {
			passed++
			return
		}
		failed++
		fmt.Println("go-sumdb: FAILED", label)
	}
	log, fork := files.below("log/"), files.below("fork/")
	proved, err := verify(log, logKey, witnessKeys)
	if err != nil {
		count(fmt.Sprintf("the log as it is: %v", err), false)
	} else {
		for _, what := range proved {
			fmt.Println("go-sumdb:", what)
			count(what, true)
		}
		for _, bad := range tampered(log, logKey, witnessKeys) {
			_, err := verify(bad.files, bad.logKey, witnessKeys)
			count("accepted although "+bad.defect, err != nil)
		}
	}
	checkFork(count, log, fork, files["older"], logKey, witnessKeys)
	checkProofs(count, files, logKey, witnessKeys)
	fmt.Printf("go-sumdb: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// checkFork demands that the older checkpoint is extended by the log and not by the fork, which is a log like any other
// but for the cosignatures that nobody gave it.
func checkFork(count func(string, bool), log, fork directory, older []byte, logKey string, witnessKeys []string) {
	_, err := verify(fork, logKey, nil)
	count(fmt.Sprintf("the fork is whole and signed by the log: %v", err), err == nil)
	_, err = verify(fork, logKey, witnessKeys)
	count("accepted although nobody cosigned the fork", err != nil)
	err = extends(log, older, logKey)
	count(fmt.Sprintf("the log extends its older checkpoint: %v", err), err == nil)
	err = extends(fork, older, logKey)
	count("accepted although the fork does not extend the older checkpoint", err != nil)
	mixed := directory{}
	for path, content := range fork {
		mixed[path] = content
	}
	mixed["checkpoint"] = log["checkpoint"]
	_, err = verify(mixed, logKey, witnessKeys)
	count("accepted although the entries are the fork's", err != nil)
}

// extends demands that the log in the directory is a continuation of the one with this checkpoint, by a proof that is read
// from the tiles.
func extends(files directory, older []byte, logKey string) error {
	verifier, err := note.NewVerifier(logKey)
	if err != nil {
		return err
	}
	var trees [2]tlog.Tree
	for i, message := range [][]byte{older, files["checkpoint"]} {
		opened, err := note.Open(message, note.VerifierList(verifier))
		if err != nil {
			return err
		}
		if trees[i], err = parseCheckpoint(opened.Text, verifier.Name()); err != nil {
			return err
		}
	}
	proof, err := tlog.ProveTree(trees[1].N, trees[0].N, tlog.TileHashReader(trees[1], tiles(files)))
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, trees[1].N, trees[1].Hash, trees[0].N, trees[0].Hash)
}

// checkProofs verifies each proof file, and demands to refuse it when it is changed.
func checkProofs(count func(string, bool), files directory, logKey string, witnessKeys []string) {
	proofs := 0
	for _, path := range sortedPaths(files) {
		name := strings.TrimSuffix(path, ".tlog-proof")
		if name == path {
			continue
		}
		proofs++
		entry := "entry number " + name
		good := string(files[path])
		check := func(text, entry string) error { return verifyProof(text, []byte(entry), logKey, witnessKeys) }
		err := check(good, entry)
		count(fmt.Sprintf("%s: %v", path, err), err == nil)
		for defect, text := range tamperedProofs(good, name, string(files["older"])) {
			count(fmt.Sprintf("%s accepted although %s", path, defect), check(text, entry) != nil)
		}
		count(path+" accepted for another entry", check(good, entry+"x") != nil)
	}
	count("there are proofs", proofs > 3)
}

// verifyProof reads a proof as C2SP tlog-proof writes it, and verifies that the entry is where it says.
func verifyProof(text string, entry []byte, logKey string, witnessKeys []string) error {
	end := strings.Index(text, "\n\n")
	if end < 0 {
		return errors.New("proof: no empty line")
	}
	lines := strings.Split(text[:end], "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("proof: another first line")
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		if _, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(lines[0], "extra ")); err != nil {
			return err
		}
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return errors.New("proof: no index")
	}
	digits := strings.TrimPrefix(lines[0], "index ")
	index, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(index, 10) != digits {
		return errors.New("proof: unusable index " + digits)
	}
	var proof tlog.RecordProof
	for _, line := range lines[1:] {
		hash, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(hash) != tlog.HashSize {
			return errors.New("proof: not a hash: " + line)
		}
		proof = append(proof, *(*tlog.Hash)(hash))
	}
	tree, _, err := verifyCheckpoint([]byte(text[end+2:]), logKey, witnessKeys)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry))
}

// tamperedProofs returns copies of a proof, each with the defect that is its key.
func tamperedProofs(good, index, older string) map[string]string {
	head, checkpoint := good[:strings.Index(good, "\n\n")], good[strings.Index(good, "\n\n"):]
	lines := strings.Split(head, "\n")
	last := len(lines) - 1
	join := func(lines ...string) string { return strings.Join(lines, "\n") + checkpoint }
	other := base64.StdEncoding.EncodeToString(make([]byte, tlog.HashSize))
	exchanged := append([]string(nil), lines...)
	exchanged[last], exchanged[last-1] = exchanged[last-1], exchanged[last]
	next := strconv.Itoa(len(index)*1000 + 7)
	return map[string]string{
		"the first line is another":      strings.Replace(good, "@v1", "@v2", 1),
		"the index is another":           strings.Replace(good, "index "+index, "index "+next, 1),
		"the index has a leading zero":   strings.Replace(good, "index ", "index 0", 1),
		"there is no index":              strings.Replace(good, "index "+index+"\n", "", 1),
		"a hash is missing":              join(lines[:last]...),
		"a hash is another":              join(append(append([]string(nil), lines[:last]...), other)...),
		"there is a hash too many":       join(append(append([]string(nil), lines...), other)...),
		"two hashes are exchanged":       join(exchanged...),
		"a hash is not in base64":        join(append(append([]string(nil), lines...), "=")...),
		"the checkpoint is not cosigned": head + "\n\n" + older,
		"there is no checkpoint":         head + "\n",
		"the root is another":            replaceLine(good, 2, other),
	}
}

// replaceLine replaces a line of the checkpoint in a proof.
func replaceLine(proof string, number int, line string) string {
	start := strings.Index(proof, "\n\n") + 2
	lines := strings.Split(proof[start:], "\n")
	lines[number] = line
	return proof[:start] + strings.Join(lines, "\n")
}

// verify returns what it proved, one line for each kind of proof, or the first thing that is wrong.
func verify(files directory, logKey string, witnessKeys []string) ([]string, error) {
	tree, signatures, err := verifyCheckpoint(files["checkpoint"], logKey, witnessKeys)
	if err != nil {
		return nil, err
	}
	if err := verifyNames(files, tree.N); err != nil {
		return nil, err
	}
	entries, err := readEntries(files, tree.N)
	if err != nil {
		return nil, err
	}
	memory, err := rebuild(entries)
	if err != nil {
		return nil, err
	}
	root, err := tlog.TreeHash(tree.N, memory)
	if err != nil {
		return nil, err
	}
	if root != tree.Hash {
		return nil, errors.New("the root does not follow from the entries")
	}
	tiled, err := verifyTiles(files, tree, memory)
	if err != nil {
		return nil, err
	}
	if err := verifyInclusion(tree, entries, tiled); err != nil {
		return nil, err
	}
	pairs, err := verifyConsistency(tree, tiled, memory)
	return []string{
		fmt.Sprintf("%d signatures on the checkpoint", signatures),
		fmt.Sprintf("%d files, none missing or left over", len(files)),
		"the root follows from the entries",
		fmt.Sprintf("%d hashes stand in the tiles", len(tiled)),
		fmt.Sprintf("%d entries are included", len(entries)),
		fmt.Sprintf("%d pairs of sizes are consistent", pairs),
	}, err
}

// verifyCheckpoint demands the signatures of the log and of every witness, and no other.
func verifyCheckpoint(message []byte, logKey string, witnessKeys []string) (tlog.Tree, int, error) {
	none := tlog.Tree{}
	verifier, err := note.NewVerifier(logKey)
	if err != nil {
		return none, 0, fmt.Errorf("log key: %w", err)
	}
	verifiers := []note.Verifier{verifier}
	named := map[string]bool{} // ML-DSA-44 keys, by name and id, whose line has not been seen
	for _, key := range witnessKeys {
		witness, err := newWitness(key)
		if err != nil {
			return none, 0, fmt.Errorf("witness key: %w", err)
		}
		if witness.key == nil {
			named[lineName(witness.name, witness.id)] = true
		} else {
			verifiers = append(verifiers, witness)
		}
	}
	opened, err := note.Open(message, note.VerifierList(verifiers...))
	if err != nil {
		return none, 0, fmt.Errorf("checkpoint: %w", err)
	}
	if len(opened.Sigs) != len(verifiers) {
		return none, 0, fmt.Errorf("checkpoint: %d of %d signatures", len(opened.Sigs), len(verifiers))
	}
	for _, signature := range opened.UnverifiedSigs {
		name := lineName(signature.Name, signature.Hash)
		if !named[name] {
			return none, 0, errors.New("checkpoint: a signature that nobody expects by " + signature.Name)
		}
		delete(named, name)
	}
	if len(named) > 0 {
		return none, 0, fmt.Errorf("checkpoint: %d ML-DSA-44 cosignatures are missing", len(named))
	}
	tree, err := parseCheckpoint(opened.Text, verifier.Name())
	return tree, len(opened.Sigs) + len(opened.UnverifiedSigs), err
}

func lineName(name string, id uint32) string { return fmt.Sprintf("%s+%08x", name, id) }

// parseCheckpoint reads the three lines of C2SP tlog-checkpoint: origin, size, root.
func parseCheckpoint(text, origin string) (tlog.Tree, error) {
	none := tlog.Tree{}
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] != origin {
		return none, errors.New("checkpoint: not origin, size and root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != lines[1] || size < 1 || size > largestLog {
		return none, errors.New("checkpoint: unusable size " + lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return none, errors.New("checkpoint: the root is not a hash")
	}
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], root)
	return tree, nil
}

// verifyNames demands exactly the files that a tree of this size has, and bodies that are named by their digests.
func verifyNames(files directory, size int64) error {
	expected := map[string]bool{"checkpoint": true}
	for _, tile := range tlog.NewTiles(tileHeight, 0, size) {
		if isCurrent(tile, size) {
			expected[tilePath(tile)] = true
		}
	}
	for n := int64(0); n < (size+255)/256; n++ {
		expected[entriesPath(n, size)] = true
	}
	for path, content := range files {
		if digest := strings.TrimPrefix(path, "body/"); digest != path {
			if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != digest {
				return errors.New(path + " is not named by its digest")
			}
		} else if !expected[path] {
			return errors.New(path + " does not belong to a tree of this size")
		}
		delete(expected, path)
	}
	for path := range expected {
		return errors.New(path + " is missing")
	}
	return nil
}

// isCurrent is whether the tile is as wide as it is in a tree of this size: Go's package also lists the partial tiles of
// smaller trees, which we delete.
func isCurrent(tile tlog.Tile, size int64) bool {
	hashesOfLevel := size >> uint(tileHeight*tile.L)
	return int64(tile.W) == min(1<<tileHeight, hashesOfLevel-tile.N<<tileHeight)
}

// readEntries takes the entry bundles apart: each entry stands after its length in two bytes.
func readEntries(files directory, size int64) ([][]byte, error) {
	var entries [][]byte
	for n := int64(0); n < (size+255)/256; n++ {
		path := entriesPath(n, size)
		rest := files[path]
		for len(rest) > 0 {
			if len(rest) < 2 {
				return nil, errors.New(path + " ends within a length")
			}
			length := int(binary.BigEndian.Uint16(rest))
			if rest = rest[2:]; len(rest) < length {
				return nil, errors.New(path + " ends within an entry")
			}
			entries, rest = append(entries, rest[:length]), rest[length:]
		}
		if want := min(size, (n+1)*256); int64(len(entries)) != want {
			return nil, fmt.Errorf("%s: %d entries up to here instead of %d", path, len(entries), want)
		}
	}
	return entries, nil
}

// hashes is the list of a tree's hashes in the order in which Go's package stores them.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(h)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		found[i] = h[index]
	}
	return found, nil
}

// rebuild computes every hash of the tree from the entries alone.
func rebuild(entries [][]byte) (hashes, error) {
	var all hashes
	for i, entry := range entries {
		more, err := tlog.StoredHashes(int64(i), entry, all)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

// verifyTiles reads every hash from the tiles, where Go's package checks it against the root.
func verifyTiles(files directory, tree tlog.Tree, memory hashes) (hashes, error) {
	indexes := make([]int64, len(memory))
	for i := range indexes {
		indexes[i] = int64(i)
	}
	tiled, err := tlog.TileHashReader(tree, tiles(files)).ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("tiles: %w", err)
	}
	for i := range tiled {
		if tiled[i] != memory[i] {
			return nil, fmt.Errorf("tiles: stored hash %d does not follow from the entries", i)
		}
	}
	return tiled, nil
}

// verifyInclusion proves that each entry stands in the tree at its place.
func verifyInclusion(tree tlog.Tree, entries [][]byte, tiled hashes) error {
	for i, entry := range entries {
		proof, err := tlog.ProveRecord(tree.N, int64(i), tiled)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, int64(i), tlog.RecordHash(entry)); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

// verifyConsistency proves that each size extends each smaller one; the heads come from the entries, the proofs from
// the tiles.
func verifyConsistency(tree tlog.Tree, tiled, memory hashes) (int, error) {
	sizes := sizesToCompare(tree.N)
	heads := map[int64]tlog.Hash{}
	for _, size := range sizes {
		head, err := tlog.TreeHash(size, memory)
		if err != nil {
			return 0, err
		}
		heads[size] = head
	}
	checks := 0
	for i, newer := range sizes {
		for _, older := range sizes[:i] {
			proof, err := tlog.ProveTree(newer, older, tiled)
			if err != nil {
				return 0, err
			}
			if err := tlog.CheckTree(proof, newer, heads[newer], older, heads[older]); err != nil {
				return 0, fmt.Errorf("from %d to %d entries: %w", older, newer, err)
			}
			checks++
		}
	}
	return checks, nil
}

func sizesToCompare(size int64) []int64 {
	var sizes []int64
	for n := int64(1); n <= size; n++ {
		atBoundary := (n+1)%256 <= 2 || n&(n-1) == 0
		if size <= pairsCheckedBy || n <= 16 || size-n <= 16 || atBoundary {
			sizes = append(sizes, n)
		}
	}
	return sizes
}

// tiles hands tiles to Go's package, which asks for them with their height.
type tiles directory

func (t tiles) Height() int { return tileHeight }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var contents [][]byte
	for _, tile := range wanted {
		content, exists := t[tilePath(tile)]
		if !exists {
			return nil, errors.New(tilePath(tile) + " is missing")
		}
		if len(content) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", tilePath(tile), len(content))
		}
		contents = append(contents, content)
	}
	return contents, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func tilePath(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
}

func entriesPath(n, size int64) string {
	tile := tlog.Tile{H: tileHeight, L: -1, N: n, W: int(min(256, size-n*256))}
	return strings.Replace(tilePath(tile), "tile/data/", "tile/entries/", 1)
}

// witness verifies cosignature/v1 (C2SP tlog-cosignature): the signature follows a time, and covers it.
type witness struct {
	name string
	id   uint32
	key  ed25519.PublicKey // nil for an ML-DSA-44 key, with which nothing is verified here
}

func newWitness(text string) (*witness, error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not name+id+key")
	}
	id, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, err
	}
	isEd25519 := len(data) == 1+ed25519.PublicKeySize && data[0] == 4
	if !isEd25519 && (len(data) != 1+1312 || data[0] != 6) {
		return nil, errors.New("not a cosigning key of type 0x04 or 0x06")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), data...))
	if binary.BigEndian.Uint32(sum[:4]) != uint32(id) {
		return nil, errors.New("the id is not that of the key")
	}
	if !isEd25519 {
		return &witness{parts[0], uint32(id), nil}, nil
	}
	return &witness{parts[0], uint32(id), data[1:]}, nil
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return w.id }

func (w *witness) Verify(message, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(signature)
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, message)
	return ed25519.Verify(w.key, []byte(signed), signature[8:])
}

// attempt is a log with one defect.
type attempt struct {
	defect string
	files  directory
	logKey string
}

func tampered(files directory, logKey string, witnessKeys []string) []attempt {
	var all []attempt
	add := func(defect string, edit func(directory)) {
		changed := directory{}
		for path, content := range files {
			changed[path] = append([]byte(nil), content...)
		}
		edit(changed)
		all = append(all, attempt{defect, changed, logKey})
	}
	for _, path := range sortedPaths(files) {
		path := path
		if !strings.HasPrefix(path, "body/") { // a body may be erased: the log names it and does not need it
			add(path+" is missing", func(d directory) { delete(d, path) })
		}
		add(path+" has a byte more", func(d directory) { d[path] = append(d[path], 'x') })
		if path != "checkpoint" {
			for _, where := range []int{0, len(files[path]) / 2, len(files[path]) - 1} {
				where := where
				add(fmt.Sprintf("byte %d of %s is changed", where, path), func(d directory) { d[path][where] ^= 1 })
			}
		}
	}
	add("a file is left over", func(d directory) { d["tile/0/999"] = make([]byte, 256*tlog.HashSize) })
	addCheckpointDefects(add, string(files["checkpoint"]))
	stranger := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	if key, err := note.NewEd25519VerifierKey(strings.SplitN(logKey, "+", 2)[0], stranger); err == nil {
		all = append(all, attempt{"the log's key is another", files, key})
	}
	return all
}

// addCheckpointDefects changes each line of the checkpoint. Signatures are changed as bytes, because base64 in Go
// ignores the bits that pad it.
func addCheckpointDefects(add func(string, func(directory)), checkpoint string) {
	lines := strings.Split(strings.TrimSuffix(checkpoint, "\n"), "\n")
	replace := func(defect string, number int, line ...string) {
		changed := append(append(append([]string(nil), lines[:number]...), line...), lines[number+1:]...)
		add(defect, func(d directory) { d["checkpoint"] = []byte(strings.Join(changed, "\n") + "\n") })
	}
	replace("the origin is another", 0, lines[0]+"x")
	replace("the size is another", 1, lines[1]+"0")
	replace("the root is another", 2, base64.StdEncoding.EncodeToString(make([]byte, tlog.HashSize)))
	for number := 4; number < len(lines); number++ {
		space := strings.LastIndex(lines[number], " ")
		signature, err := base64.StdEncoding.DecodeString(lines[number][space+1:])
		if err != nil {
			continue
		}
		replace(fmt.Sprintf("signature %d is missing", number-3), number)
		// Key id; time of a cosignature; both halves of the signature.
		for _, where := range []int{0, 4, 11, 12, 35, 36, len(signature) - 1} {
			isMlDsa := len(signature) > 4+8+ed25519.SignatureSize
			if where >= len(signature) || isMlDsa && where > 0 {
				continue
			}
			changed := append([]byte(nil), signature...)
			changed[where] ^= 1
			line := lines[number][:space+1] + base64.StdEncoding.EncodeToString(changed)
			replace(fmt.Sprintf("byte %d of signature %d is changed", where, number-3), number, line)
		}
	}
}

func sortedPaths(files directory) []string {
	var paths []string
	for path := range files {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	return paths
}

// below returns the files in a directory of the directory.
func (d directory) below(prefix string) directory {
	found := directory{}
	for path, content := range d {
		if strings.HasPrefix(path, prefix) {
			found[strings.TrimPrefix(path, prefix)] = content
		}
	}
	return found
}

func read(root string) (directory, error) {
	files := directory{}
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(relative)], err = os.ReadFile(path)
		return err
	})
	return files, err
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
