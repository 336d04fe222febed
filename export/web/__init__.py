"""The network in a visitor's browser: a static folder that any web server can host.

python -m export.web --model megan_nano --out site

__main__   the program
site       converts, verifies in a real browser, and lays the folder out
packages   third-party code: installed by npm into a cache, copied with licences
serve      a local web server with the headers that hosting needs
browser/   headless Chromium, driven by playwright-core, that runs a file or a page
page/      what visitors get: plain modules, no framework, no build step
"""
