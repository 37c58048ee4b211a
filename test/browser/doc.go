// Package browser looks at the console in a real browser: Debian's chromium, driven by chromedp. It
// shows that people can do with the pages what the pages say, that no page breaks its own security
// policy, and that axe-core finds no serious fault. The screenshots in docs are made here.
package browser
