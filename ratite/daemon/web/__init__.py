"""The page: machines in a browser of the same host.

    site      its listener, files and headers      login     one-time codes, sessions
    static/   what the browser gets, as it is; static/vendor/ is others' work, listed in MANIFEST.json there
"""
