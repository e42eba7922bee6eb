"""An index of vectors of one embedding space: stored so that nothing acknowledged is lost, searched by cosine."""
