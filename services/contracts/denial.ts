/** Why a missing permission is missing, where there is more to say than its name. */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { SYSTEM_SPACE } from '../state/transaction.ts'

/** A denied deployment says that it is the operator's until execution is metered; any other denial stays as it is. */
export function explainDenial(route: Route, error: CMeshError): CMeshError {
  const deploys = route.service === 'S' && route.write && route.segments[0] === SYSTEM_SPACE && route.segments[1] === 'deploy'
  return deploys ? new CMeshError('CMESH_DEPLOY_FORBIDDEN', {}, { cause: error }) : error
}
