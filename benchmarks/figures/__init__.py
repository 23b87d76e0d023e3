"""What people look at: figures, attention maps, the report.

Reading order: registry (`plot`), selection (which rows a figure shows), charts, attainment,
breakdown and measure_panels (drawn from tables), cost_plot (quality against costs) and
difficulty_plot (against grades), training_curves (from fits), tuning_figure (of a search),
drift_chart (of other things), with_pictures and picture_grid (with images), front_picture
(README's), plots (axes in, drawn axes out) with crowded (many methods), looks (of methods), style,
label_placing, command; attention/, report/, one_prompt/.
"""
