import { MockStateStore } from '../../providers/state/mock.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { stateConformance } from '../conformance/state.ts'

stateConformance('mock', () => new MockStateStore())
stateConformance('hypercore (os)', dir => new HypercoreStateStore({ dir }))
stateConformance('hypercore (disk)', dir => new HypercoreStateStore({ dir, durability: 'disk' }))
