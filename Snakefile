# So that plain `snakemake TARGET` works from the root of a clone; everything is in workflow/Snakefile.


include: "workflow/Snakefile"
