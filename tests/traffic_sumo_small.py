"""A hand-written SUMO network: a signal with a waiting place, a priority junction, a stop.

``west`` (bus lane and car lane) and ``east_in`` meet at the signal J; ``north`` and ``side`` merge
at C, which has no lanes inside; ``last`` ends at D, where vehicles stop and turn round.
"""

NET = """<?xml version="1.0" encoding="UTF-8"?>
<net version="1.20">
    <location netOffset="0,0"/>
    <edge id=":J_0" function="internal"><lane id=":J_0_0" index="0" speed="10" length="12"/></edge>
    <edge id=":J_1" function="internal"><lane id=":J_1_0" index="0" speed="8" length="16"/></edge>
    <edge id=":J_2" function="internal"><lane id=":J_2_0" index="0" speed="10" length="12"/></edge>
    <edge id=":J_3" function="internal"><lane id=":J_3_0" index="0" speed="4" length="4"/></edge>
    <edge id=":J_w0" function="walkingarea"><lane id=":J_w0_0" index="0" speed="1" length="2"/></edge>
    <edge id="west" from="A" to="J" priority="1">
        <lane id="west_0" index="0" allow="bus" speed="9" length="101"/>
        <lane id="west_1" index="1" disallow="tram" speed="10" length="100"/>
    </edge>
    <edge id="east_in" from="B" to="J"><lane id="east_in_0" index="0" speed="20" length="200"/></edge>
    <edge id="east_out" from="J" to="B"><lane id="east_out_0" index="0" speed="20" length="200"/></edge>
    <edge id="west_out" from="J" to="A"><lane id="west_out_0" index="0" speed="10" length="90"/></edge>
    <edge id="north" from="J" to="C"><lane id="north_0" index="0" speed="10" length="50"/></edge>
    <edge id="side" from="E" to="C"><lane id="side_0" index="0" speed="5" length="30"/></edge>
    <edge id="last" from="C" to="D"><lane id="last_0" index="0" speed="10" length="40"/></edge>
    <edge id="back" from="D" to="C"><lane id="back_0" index="0" speed="10" length="40"/></edge>
    <edge id="path" from="A" to="J"><lane id="path_0" index="0" allow="pedestrian" speed="1" length="9"/></edge>
    <tlLogic id="TL" type="static" programID="0" offset="7">
        <phase duration="30" state="Ggr"/>
        <phase duration="3" state="yyr"/>
        <phase duration="20" state="rrG"/>
        <phase duration="3" state="rry"/>
    </tlLogic>
    <junction id="A" type="dead_end" x="-100" y="0" incLanes="west_out_0" intLanes=""/>
    <junction id="J" type="traffic_light" x="4" y="8" incLanes="west_0 west_1 east_in_0" intLanes=":J_0_0 :J_3_0 :J_2_0">
        <request index="0" response="000" foes="000" cont="0"/>
        <request index="1" response="100" foes="100" cont="1"/>
        <request index="2" response="000" foes="010" cont="0"/>
    </junction>
    <junction id="B" type="dead_end" x="200" y="0" incLanes="east_out_0" intLanes=""/>
    <junction id="C" type="priority" x="0" y="50" incLanes="side_0 north_0 back_0" intLanes="">
        <request index="0" response="00" foes="10"/>
        <request index="1" response="01" foes="01"/>
    </junction>
    <junction id="D" type="allway_stop" x="0" y="90" incLanes="last_0" intLanes="">
        <request index="0" response="0" foes="0"/>
    </junction>
    <junction id="E" type="dead_end" x="30" y="50" incLanes="" intLanes=""/>
    <junction id=":J_3_0" type="internal" x="0" y="0" incLanes=":J_1_0 east_in_0" intLanes=":J_2_0"/>
    <connection from="west" to="east_out" fromLane="1" toLane="0" via=":J_0_0" tl="TL" linkIndex="0" dir="s" state="O"/>
    <connection from="west" to="north" fromLane="1" toLane="0" via=":J_1_0" tl="TL" linkIndex="1" dir="L" state="o"/>
    <connection from="east_in" to="west_out" fromLane="0" toLane="0" via=":J_2_0" tl="TL" linkIndex="2" dir="s" state="O"/>
    <connection from="north" to="last" fromLane="0" toLane="0" dir="s" state="m"/>
    <connection from="side" to="last" fromLane="0" toLane="0" dir="r" state="M"/>
    <connection from="last" to="back" fromLane="0" toLane="0" dir="t" state="w"/>
    <connection from="path" to=":J_w0" fromLane="0" toLane="0" dir="s" state="M"/>
    <connection from=":J_0" to="east_out" fromLane="0" toLane="0" dir="s" state="M"/>
    <connection from=":J_1" to="north" fromLane="0" toLane="0" via=":J_3_0" dir="l" state="m"/>
    <connection from=":J_3" to="north" fromLane="0" toLane="0" dir="l" state="M"/>
    <connection from=":J_2" to="west_out" fromLane="0" toLane="0" dir="s" state="M"/>
</net>
"""  # noqa: E501


def write_net(folder, *changes, name="small.net.xml"):
    """The network as a file, with ``(old, new)`` texts replaced; each old one must be there."""
    text = NET
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = folder / name
    path.write_text(text)
    return path
