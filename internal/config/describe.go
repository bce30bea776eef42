package config

// Description is one setting as the manual shows it.
type Description struct {
	Name      string // in full
	Default   string // Markdown
	ReadBy    string
	Meaning   string // Markdown
	File      bool   // has a _FILE form
	Secret    bool
	Required  bool // by some reader
	Available bool // in this version
}

// Describe lists every setting in the order of the manual.
func Describe() []Description {
	rows := table()
	list := make([]Description, len(rows))
	for i, row := range rows {
		d := Description{
			Name: row.full(), Default: row.defaultText, ReadBy: row.by.String(), Meaning: row.meaning,
			File: row.hasFile(), Secret: row.secret, Required: row.required != 0, Available: !row.later,
		}
		if d.Default == "" && row.fallback != "" {
			d.Default = "`" + row.fallback + "`"
		}
		list[i] = d
	}
	return list
}
